"""Timesteps and states, step by step, of diffusers' schedulers made by from_config from one JSON.

A stand-in for the model, 0.3·input + cos(t)·pattern, keeps the states apart from one another.
"""
import inspect, json, math
from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler, LCMScheduler, LMSDiscreteScheduler, PNDMScheduler, TCDScheduler, UniPCMultistepScheduler,
)
from safetensors.torch import save_file

KINDS = {
    "dpm++": DPMSolverMultistepScheduler, "ddim": DDIMScheduler, "pndm": PNDMScheduler,
    "euler": EulerDiscreteScheduler, "ddpm": DDPMScheduler, "euler-a": EulerAncestralDiscreteScheduler,
    "lms": LMSDiscreteScheduler, "unipc": UniPCMultistepScheduler, "lcm": LCMScheduler, "tcd": TCDScheduler,
}
MINI_SD = json.loads((Path(__file__).resolve().parents[3] / "Models/mini-sd/scheduler/scheduler_config.json").read_text())
SHAPE = [1, 1, 2, 3]

NULL = "null"  # a key that is there and null

# What is put over mini-sd's JSON (None removes a key), for which schedulers, at which numbers of steps.
EVERY, SIGMA, STEPS = list(KINDS)[:5], ["dpm++", "euler"], [10, 20, 50]
NEWER, DISTILLED, SPREAD = ["euler-a", "lms", "unipc"], ["lcm", "tcd"], ["dpm++", "unipc", "euler", "lms"]
FREE = ["ddim", "pndm", "ddpm", "euler-a"]  # do not read how the noise levels are spread
THIRD, TO_MINIMUM = {"solver_order": 3}, {"final_sigmas_type": "sigma_min"}
THRESHOLD = {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 1.5}
VARIANTS = [
    ("plain", {}, EVERY, STEPS),
    ("linspace", {"timestep_spacing": "linspace"}, EVERY, STEPS),
    ("leading", {"timestep_spacing": "leading"}, EVERY, STEPS),
    ("trailing", {"timestep_spacing": "trailing"}, EVERY, STEPS),
    ("sigma-min", {"final_sigmas_type": "sigma_min"}, SIGMA, STEPS),
    ("zero", {"final_sigmas_type": "zero"}, SIGMA, STEPS),
    ("trailing-sigma-min", {"timestep_spacing": "trailing", "final_sigmas_type": "sigma_min"}, SIGMA, STEPS),
    ("velocity", {"prediction_type": "v_prediction"}, EVERY, STEPS),
    ("sample", {"prediction_type": "sample"}, ["dpm++", "ddim", "euler", "ddpm"], [10]),
    ("runge-kutta", {"skip_prk_steps": None}, ["pndm"], STEPS),
    ("runge-kutta-velocity", {"skip_prk_steps": False, "prediction_type": "v_prediction"}, ["pndm"], [10]),
    ("alpha-one", {"set_alpha_to_one": True}, ["ddim", "pndm"], [10]),
    ("alpha-default", {"set_alpha_to_one": None}, ["ddim", "pndm"], [10]),
    ("clip-default", {"clip_sample": None}, ["ddim", "ddpm"], [10]),
    ("clip-2", {"clip_sample": True, "clip_sample_range": 2.0}, ["ddim", "ddpm"], [10]),
    ("no-offset", {"steps_offset": None, "timestep_spacing": "leading"}, EVERY, [20]),
    ("linear", {"beta_schedule": None, "beta_start": None, "beta_end": None}, EVERY, [20]),
    ("cosine", {"beta_schedule": "squaredcos_cap_v2"}, ["ddim", "pndm", "euler", "ddpm"], [20]),
    ("cosine-clipped", {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}, ["dpm++"], [20]),
    ("trained", {"num_train_timesteps": 100, "trained_betas": [0.001 + 0.0003 * i for i in range(100)]}, EVERY, [20]),
    ("zero-snr", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
     ["dpm++", "ddim", "euler", "ddpm"], [20]),
    ("first-order", {"solver_order": 1}, ["dpm++"], [10]),
    ("heun", {"solver_type": "heun"}, ["dpm++"], [20]),
    ("other-solver", {"solver_type": "bh2"}, ["dpm++"], [10]),
    ("second-order-end", {"lower_order_final": False, "final_sigmas_type": "sigma_min"}, ["dpm++"], [10]),
    ("euler-end", {"euler_at_final": True, "final_sigmas_type": "sigma_min"}, ["dpm++"], [20]),
    ("large-variance", {"variance_type": "fixed_large"}, ["ddpm"], [10]),
    ("used-defaults", {"_use_default_values": ["beta_schedule", "skip_prk_steps", "steps_offset"],
                       "timestep_spacing": "leading"}, EVERY, [10]),
    ("one-step", {}, EVERY, [1]),
    ("two-steps", {}, EVERY, [2]),
    ("odd", {}, EVERY, [7]),
    ("odd-trailing", {"timestep_spacing": "trailing"}, EVERY, [13]),

    ("plain", {}, NEWER, [1, 2, 10, 20]),
    ("linspace", {"timestep_spacing": "linspace"}, NEWER, [10]),
    ("leading", {"timestep_spacing": "leading"}, NEWER, [10]),
    ("trailing", {"timestep_spacing": "trailing"}, NEWER, [10]),
    ("velocity", {"prediction_type": "v_prediction"}, NEWER, [10]),
    ("sample", {"prediction_type": "sample"}, ["lms", "unipc"], [10]),
    ("sigma-min", TO_MINIMUM, NEWER, [20]),
    ("zero-snr", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
     NEWER, [20]),
    ("plain", {}, DISTILLED, [1, 2, 4, 7, 8, 50]),
    ("lcm-defaults", {"_class_name": "LCMScheduler", "beta_start": None, "beta_end": None, "beta_schedule": None,
                      "clip_sample": None}, DISTILLED, [4]),
    ("distillation", {"original_inference_steps": 30, "timestep_scaling": 1.5}, DISTILLED, [4]),
    ("clip-2", {"clip_sample": True, "clip_sample_range": 2.0}, DISTILLED, [4]),
    ("velocity", {"prediction_type": "v_prediction"}, DISTILLED, [4]),
    ("sample", {"prediction_type": "sample"}, DISTILLED, [4]),

    ("karras", {"use_karras_sigmas": True}, SPREAD, [1, 5, 20, 50]),
    ("karras", {"use_karras_sigmas": True}, FREE, [5]),
    ("exponential", {"use_exponential_sigmas": True}, SPREAD, [5, 20]),
    ("beta", {"use_beta_sigmas": True}, SPREAD, [5, 20]),
    ("lu", {"use_lu_lambdas": True}, SPREAD, [5, 20]),
    ("karras-minimum", {"use_karras_sigmas": True, **TO_MINIMUM}, ["dpm++", "unipc", "euler"], [5, 20]),
    ("karras-leading", {"use_karras_sigmas": True, "timestep_spacing": "leading"}, SPREAD, [10]),
    ("karras-ends", {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 10.0, **TO_MINIMUM},
     ["unipc", "euler", "lms"], [10]),
    ("karras-ends-zero", {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 10.0}, ["dpm++"], [10]),
    ("karras-cosine", {"use_karras_sigmas": True, "beta_schedule": "squaredcos_cap_v2"}, SPREAD, [10]),
    ("karras-velocity", {"use_karras_sigmas": True, "prediction_type": "v_prediction"}, SPREAD, [10]),

    ("third-order", THIRD, ["dpm++", "unipc"], [1, 2, 3, 10, 20]),
    ("third-order-end", {**THIRD, **TO_MINIMUM, "lower_order_final": False}, ["dpm++", "unipc"], [10]),
    ("third-order-karras", {**THIRD, "use_karras_sigmas": True}, ["dpm++", "unipc"], [10, 20]),
    ("deis", {"algorithm_type": "deis", "solver_type": "logrho", **TO_MINIMUM}, ["dpm++"], [10, 20]),
] + [
    (f"{algorithm}-{solver}-{order}", {"algorithm_type": algorithm, "solver_type": solver, "solver_order": order,
                                       **({} if "++" in algorithm else TO_MINIMUM)}, ["dpm++"], [5, 20])
    for algorithm in ["dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"] for solver in ["midpoint", "heun"]
    for order in [1, 2, 3] if (algorithm, order) != ("sde-dpmsolver", 3)
] + [
    ("sde-karras", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}, ["dpm++"], [10]),
    ("noise-velocity", {"algorithm_type": "dpmsolver", "prediction_type": "v_prediction", **TO_MINIMUM}, ["dpm++"], [10]),
    ("noise-sample", {"algorithm_type": "dpmsolver", "prediction_type": "sample", **TO_MINIMUM}, ["dpm++"], [10]),
    ("thresholding", THRESHOLD, ["dpm++", "unipc", "ddim", "ddpm", "lcm"], [10]),
    ("noise-thresholding", {**THRESHOLD, "algorithm_type": "dpmsolver", **TO_MINIMUM}, ["dpm++"], [10]),

    ("bh1", {"solver_type": "bh1", **TO_MINIMUM}, ["unipc"], [10]),
    ("bh1-third", {"solver_type": "bh1", **THIRD, **TO_MINIMUM}, ["unipc"], [10]),
    ("unipc-first", {"solver_order": 1}, ["unipc"], [10]),
    ("unipc-noise", {"predict_x0": False, **TO_MINIMUM}, ["unipc"], [10]),
    ("unipc-noise-third", {"predict_x0": False, **THIRD, **TO_MINIMUM}, ["unipc"], [10]),
    ("uncorrected", {"disable_corrector": [0, 1, 5]}, ["unipc"], [10]),

    ("null-clip", {"clip_sample": NULL}, ["ddim", "ddpm", "lcm"], [4]),
    ("null-alpha", {"set_alpha_to_one": NULL}, ["ddim", "pndm"], [10]),
    ("null-order", {"lower_order_final": NULL, **TO_MINIMUM}, ["dpm++", "unipc"], [10]),
    ("null-clean", {"predict_x0": NULL, **TO_MINIMUM}, ["unipc"], [10]),
    # Where NumPy's way to count meets ties.
    ("trailing", {"timestep_spacing": "trailing"}, ["dpm++", "ddim"], [48, 96]),
]

V_TRAILING = {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
# Every key of the classes with values that make a difference, beside what they need for it.
PROBES = {
    "num_train_timesteps": [{"num_train_timesteps": 500}],
    "beta_start": [{"beta_start": 0.002}], "beta_end": [{"beta_end": 0.02}],
    "beta_schedule": [{"beta_schedule": v} for v in ["linear", "squaredcos_cap_v2", "sigmoid", "laplace", "x"]],
    "trained_betas": [{"num_train_timesteps": 100, "trained_betas": [0.001 + 0.0003 * i for i in range(100)]}],
    "prediction_type": [{"prediction_type": v} for v in ["v_prediction", "sample", "flow_prediction", "x"]],
    "timestep_spacing": [{"timestep_spacing": v} for v in ["linspace", "leading", "trailing", "x"]],
    "steps_offset": [{"timestep_spacing": "leading", "steps_offset": 5}],
    "rescale_betas_zero_snr": [{"rescale_betas_zero_snr": True, **V_TRAILING}, {"rescale_betas_zero_snr": True}],
    "clip_sample": [{"clip_sample": True}], "clip_sample_range": [{"clip_sample": True, "clip_sample_range": 0.5}],
    "thresholding": [{"thresholding": True}],
    "dynamic_thresholding_ratio": [{**THRESHOLD, "dynamic_thresholding_ratio": 0.5}],
    "sample_max_value": [{**THRESHOLD, "sample_max_value": 1.1}],
    "set_alpha_to_one": [{"set_alpha_to_one": True}], "skip_prk_steps": [{"skip_prk_steps": False}],
    "algorithm_type": [{"algorithm_type": v, **more} for v in
                       ["dpmsolver", "sde-dpmsolver++", "sde-dpmsolver", "deis", "x"] for more in [{}, TO_MINIMUM]],
    "solver_type": [{"solver_type": v} for v in ["midpoint", "heun", "logrho", "bh1", "bh2", "x"]],
    "solver_order": [{"solver_order": v} for v in [1, 3, 4]] + [
        {"algorithm_type": "sde-dpmsolver", **THIRD, **TO_MINIMUM}],
    "lower_order_final": [{"lower_order_final": False, **TO_MINIMUM}],
    "euler_at_final": [{"euler_at_final": True, "lower_order_final": False, **TO_MINIMUM}],
    "final_sigmas_type": [{"final_sigmas_type": v} for v in ["sigma_min", "x"]],
    "lambda_min_clipped": [{"lambda_min_clipped": -1.0}, {"lambda_min_clipped": 100.0}],
    "variance_type": [{"variance_type": v} for v in
                      ["fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range"]],
    "use_karras_sigmas": [{"use_karras_sigmas": True}], "use_exponential_sigmas": [{"use_exponential_sigmas": True}],
    "use_beta_sigmas": [{"use_beta_sigmas": True}, {"use_beta_sigmas": True, "use_karras_sigmas": True}],
    "use_lu_lambdas": [{"use_lu_lambdas": True}],
    "sigma_min": [{"use_karras_sigmas": True, "sigma_min": 0.1}],
    "sigma_max": [{"use_karras_sigmas": True, "sigma_max": 10.0}],
    "use_flow_sigmas": [FLOW, {"use_flow_sigmas": True}], "flow_shift": [{**FLOW, "flow_shift": 3.0}],
    "use_dynamic_shifting": [{"use_dynamic_shifting": True}],
    "time_shift_type": [{**FLOW, "use_dynamic_shifting": True, "time_shift_type": "linear"}],
    "shift_terminal": [{"shift_terminal": 0.1}], "solver_p": [{"solver_p": {"name": "ddim"}}],
    "interpolation_type": [{"interpolation_type": "log_linear"}],
    "timestep_type": [{"timestep_type": "continuous", "prediction_type": "v_prediction"}],
    "predict_x0": [{"predict_x0": False}, {"predict_x0": False, **TO_MINIMUM}],
    "disable_corrector": [{"disable_corrector": [0, 1]}],
    "original_inference_steps": [{"original_inference_steps": 30}], "timestep_scaling": [{"timestep_scaling": 0.01}],
}
# What a class has among its keys and does not act on, in those probes.
UNREAD = {
    "dpm++": ["variance_type", "use_dynamic_shifting", "time_shift_type"], "unipc": ["time_shift_type"],
    "lcm": ["set_alpha_to_one", "steps_offset", "timestep_spacing"],
    "tcd": ["set_alpha_to_one", "steps_offset", "timestep_spacing", "timestep_scaling", "clip_sample",
            "clip_sample_range", "thresholding", "dynamic_thresholding_ratio", "sample_max_value"],
}


def merged(change):
    config = {**MINI_SD, **change}
    return {k: None if v == NULL else v for k, v in config.items() if v is not None or k not in change}


def run(kind, config, steps):
    scheduler = KINDS[kind].from_config(config)
    scheduler.set_timesteps(steps)
    pattern = torch.linspace(-1, 1, 6).reshape(SHAPE) * 0.7
    start = torch.tensor([0.5, -1.25, 2.0, 0.1, -0.6, 1.4]).reshape(SHAPE)
    state = start * scheduler.init_noise_sigma
    generator = torch.Generator().manual_seed(7)
    options = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # its own search takes the second of two equal timesteps
    states = []
    for t in scheduler.timesteps:
        shown = scheduler.scale_model_input(state, t)
        output = 0.3 * shown + math.cos(float(t)) * pattern
        state = scheduler.step(output, t, state, **options).prev_sample
        states.append(state.flatten())
    states = torch.stack(states)
    assert states.isfinite().all(), (kind, config)
    return scheduler.timesteps.double(), states.float()


def noise():
    """What training sees: noisy latents and velocities."""
    tensors = {}
    g = torch.Generator().manual_seed(3)
    x, e = torch.randn(4, 2, 2, generator=g), torch.randn(4, 2, 2, generator=g)
    t = torch.tensor([0, 250, 500, 999])
    tensors["latents"], tensors["noise"] = x, e
    for name, change in {
        "plain": {}, "linear": {"beta_schedule": "linear"}, "cosine": {"beta_schedule": "squaredcos_cap_v2"},
        "zero-snr": {"rescale_betas_zero_snr": True},
    }.items():
        scheduler = DDPMScheduler.from_config(merged(change))
        tensors[f"{name}/alphas"] = scheduler.alphas_cumprod[::9].clone()
        tensors[f"{name}/noisy"] = scheduler.add_noise(x, e, t)
        tensors[f"{name}/velocity"] = scheduler.get_velocity(x, e, t)
    return tensors


def probe(kind, change):
    """The last state after 8 steps; NaN where the class raises an error or gives no numbers."""
    try:
        return run(kind, merged(change), 8)[1][-1]
    except Exception:
        return torch.full([6], math.nan)


def probes():
    """For each kind [probes, 6], and the changes. Every key of every class is among them, and does something."""
    changes = [(key, change) for key, several in PROBES.items() for change in several]
    tensors = {}
    for kind, made in KINDS.items():
        rows = {(key, i): probe(kind, change) for i, (key, change) in enumerate(changes)}
        tensors[f"probes/{kind}"] = torch.stack(list(rows.values()))
        for key in set(inspect.signature(made.__init__).parameters) - {"self"}:
            without = [probe(kind, {k: v for k, v in change.items() if k != key}) for change in PROBES[key]]
            acts = any(not torch.equal(a, b) for a, b in zip([r for (k, _), r in rows.items() if k == key], without)
                       if not b.isnan().any())
            assert acts != (key in UNREAD.get(kind, [])), (kind, key, acts)
    return tensors, [{"key": key, "change": json.dumps(change)} for key, change in changes]


def make(out: Path):
    tensors, runs = noise(), []
    found, asked = probes()
    tensors.update(found)
    for name, change, kinds, counts in VARIANTS:
        for kind in kinds:
            for steps in counts:
                key = f"{name}/{kind}/{steps}"
                tensors[f"{key}/timesteps"], tensors[f"{key}/states"] = run(kind, merged(change), steps)
                runs.append({"key": key, "kind": kind, "steps": steps, "variant": name})
    variants = {name: json.dumps(merged(change)) for name, change, _, _ in VARIANTS}
    save_file(tensors, out / "schedulers.safetensors")
    (out / "schedulers.json").write_text(json.dumps({"variants": variants, "runs": runs, "probes": asked}, indent=0) + "\n")
