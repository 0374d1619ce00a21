import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

/// See Tests/Fixtures/sections/schedulers.py.
private struct SchedulerGolden: Decodable {
  struct Run: Decodable {
    let key: String
    let kind: String
    let steps: Int
    let variant: String
  }
  /// A key of diffusers' classes with a value, and what it needs beside it, as JSON.
  struct Probe: Decodable {
    let key: String
    let change: String
  }
  /// The JSON of each variant.
  let variants: [String: String]
  let runs: [Run]
  let probes: [Probe]

  static func load() throws -> SchedulerGolden {
    try JSONDecoder().decode(
      SchedulerGolden.self, from: Data(contentsOf: Fixtures.url("schedulers/schedulers.json")))
  }

  func configuration(_ variant: String) throws -> SchedulerConfiguration {
    try configured(try #require(variants[variant]))
  }
}

private func configured(_ json: String) throws -> SchedulerConfiguration {
  try JSONFile.decode(
    SchedulerConfiguration.self, from: Data(json.utf8), name: "scheduler/scheduler_config.json")
}

@Suite struct SchedulerTests {
  private let shape = [1, 1, 2, 3]

  /// The states after each step for the stand-in model of the golden data, which sees `times` where its own
  /// rounding would be compared otherwise.
  private func states(_ scheduler: any Scheduler, times: [Double]? = nil) throws -> [Tensor] {
    var scheduler = scheduler
    let times = times ?? scheduler.timesteps
    let pattern = try Tensor([-0.7, -0.42, -0.14, 0.14, 0.42, 0.7] as [Float], shape)
    let start = try Tensor([0.5, -1.25, 2.0, 0.1, -0.6, 1.4] as [Float], shape)
    let random = try RandomSource(seed: 7)
    var state = try start * scheduler.initialNoiseSigma
    return try scheduler.timesteps.indices.map { i in
      let output = try scheduler.scaledInput(state, at: i) * 0.3 + pattern * cos(times[i])
      state = try scheduler.step(output, at: i, state, random: random)
      return state
    }
  }

  @Test(
    "Timesteps are diffusers' exactly, within 0.0002 where its fp32 logarithms place them between whole ones, and every state is within 1e-5, for each kind and JSON"
  )
  func equalDiffusers() throws {
    let golden = try SchedulerGolden.load()
    let data = try SafetensorsFile(Fixtures.url("schedulers/schedulers.safetensors"))
    var compared = 0
    for run in golden.runs {
      let kind = try #require(SchedulerKind(rawValue: run.kind))
      let configuration = try golden.configuration(run.variant)
      let scheduler = try makeScheduler(kind, configuration, steps: run.steps)
      let times = try data.tensor("\(run.key)/timesteps").doubles()
      let between = [.euler, .lms].contains(kind) && configuration.sigmaSpread != nil
      try #require(times.count == scheduler.timesteps.count)
      let furthest = zip(times, scheduler.timesteps).map { abs($0 - $1) }.max() ?? 0
      #expect(furthest <= (between ? 2e-4 : 0), "\(run.key): \(scheduler.timesteps), expected \(times)")
      let expected = try data.tensor("\(run.key)/states")
      for (i, state) in try states(scheduler, times: times).enumerated() {
        let error = try relativeError(state.reshaped([6]), expected.selected(0, i))
        #expect(error <= 1e-5, "\(run.key), step \(i): \(error)")
        compared += 1
      }
    }
    #expect(compared > 5500)
  }

  @Test(
    "Every key of diffusers' classes acts as it does there, or is refused by its name with what works instead"
  )
  func everyKey() throws {
    let golden = try SchedulerGolden.load()
    let data = try SafetensorsFile(Fixtures.url("schedulers/schedulers.safetensors"))
    let plain = try #require(golden.variants["plain"])
    var (equal, refused) = (0, 0)
    var beyond: Set<String> = []
    for kind in SchedulerKind.allCases {
      // The state after 8 steps; NaN where the class raises an error or gives no numbers.
      let expected = try data.tensor("probes/\(kind.rawValue)")
      try #require(expected.shape == [golden.probes.count, 6])
      for (i, probe) in golden.probes.enumerated() {
        let json = try merged(plain, probe.change)
        let name = "\(kind.rawValue) \(probe.change)"
        do {
          let scheduler = try makeScheduler(kind, configured(json), steps: 8)
          let last = try #require(try states(scheduler).last).reshaped([6])
          let theirs = try expected.selected(0, i)
          if try theirs.doubles().allSatisfy(\.isFinite) {
            // Timesteps between whole ones are rounded otherwise there.
            let isRounded = scheduler.timesteps.contains { $0 != $0.rounded() }
            // A noise level of 4096 takes digits away: on two processors the reference differs from itself by 2e-5.
            let isSteep = probe.key == "rescale_betas_zero_snr"
            #expect(
              try relativeError(last, theirs) <= (isRounded ? 5e-4 : isSteep ? 1e-4 : 1e-5), "\(name)")
            equal += 1
          } else {
            #expect(try last.doubles().allSatisfy(\.isFinite), "\(name)")
            beyond.insert("\(kind.rawValue) \(probe.key)")
          }
        } catch let error as any DescribedError {
          let asked = try object(probe.change).keys
          #expect(asked.contains { error.message.contains("“\($0)”") }, "\(name): \(error.message)")
          if let works = error.message.firstMatch(of: /`scheduler ([a-z+-]+)` works$/)?.output.1 {
            let other = try #require(SchedulerKind(rawValue: String(works)))
            #expect(throws: Never.self) { try makeScheduler(other, configured(json), steps: 8) }
          } else {
            #expect(error.message.contains("supported: "), "\(name): \(error.message)")
          }
          refused += 1
        }
      }
    }
    #expect(equal > 450 && refused > 100, "\(equal), \(refused)")
    #expect(beyond == ["dpm++ algorithm_type", "unipc solver_type"])
  }

  private func object(_ json: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
  }

  private func merged(_ json: String, _ change: String) throws -> String {
    let all = try object(json).merging(object(change)) { $1 }
    return String(decoding: try JSONSerialization.data(withJSONObject: all), as: UTF8.self)
  }

  @Test("Noisy latents, velocities and ᾱ of training equal diffusers'")
  func trainingNoise() throws {
    let golden = try SchedulerGolden.load()
    let data = try SafetensorsFile(Fixtures.url("schedulers/schedulers.safetensors"))
    let latents = try data.tensor("latents")
    let noise = try data.tensor("noise")
    for (name, configuration) in [
      ("plain", try golden.configuration("plain")), ("linear", try configured("{}")),
      ("cosine", try configured(#"{"beta_schedule": "squaredcos_cap_v2"}"#)),
      (
        "zero-snr",
        try configured(
          #"{"rescale_betas_zero_snr": true, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}"#
        )
      ),
    ] {
      var configuration = configuration
      if name == "linear" { (configuration.betaStart, configuration.betaEnd) = (0.00085, 0.012) }
      let schedule = try NoiseSchedule(configuration)
      let alphas = stride(from: 0, to: 1000, by: 9).map { schedule.alphasCumprod[$0] }
      for (a, b) in zip(alphas, try data.tensor("\(name)/alphas").doubles()) {
        #expect(abs(a - b) <= 2e-6 * b + 1e-12, "\(name)")
      }
      let t = [0, 250, 500, 999]
      let noisy = try schedule.addNoise(latents, noise, timesteps: t)
      #expect(try relativeError(noisy, data.tensor("\(name)/noisy")) < 1e-6)
      let velocity = try schedule.velocity(latents, noise, timesteps: t)
      #expect(try relativeError(velocity, data.tensor("\(name)/velocity")) < 1e-6)
    }
  }

  @Test("Latents of any precision and rank get noise; wrong timesteps are refused")
  func noiseShapes() throws {
    let schedule = try NoiseSchedule(SchedulerConfiguration())
    let latents = try Tensor.ones([2, 4, 8, 8], dtype: .bfloat16)
    #expect(try schedule.addNoise(latents, latents, timesteps: [1, 2]).dtype == .bfloat16)
    for (t, words) in [
      ([1], "1 timesteps for latents of shape [2, 4, 8, 8]"), ([1, 1000], "timestep 1000 is outside 0…999"),
      ([-1, 1], "timestep -1 is outside 0…999"), ([], "0 timesteps for latents of shape [2, 4, 8, 8]"),
    ] as [([Int], String)] {
      #expect(refusal { try schedule.addNoise(latents, latents, timesteps: t) }?.message == words)
    }
  }

  @Test("A step out of range or order, or without the noise that it needs, is an error")
  func misuse() throws {
    let plain = try SchedulerGolden.load().configuration("plain")
    let x = try Tensor.ones(shape)
    for kind in SchedulerKind.allCases {
      var scheduler = try makeScheduler(kind, plain, steps: 5)
      let count = scheduler.timesteps.count
      for i in [-1, count] {
        let error = refusal { try scheduler.step(x, at: i, x, random: nil) }
        #expect(error?.message == "step \(i) of a scheduler with \(count) timesteps")
      }
    }
    var pndm = try makeScheduler(.pndm, plain, steps: 5)
    let early = refusal { try pndm.step(x, at: 1, x, random: nil) }
    #expect(early?.message == "pndm takes its steps in order: 0 is next, not 1")
    let sde = try configured(#"{"algorithm_type": "sde-dpmsolver++"}"#)
    for (kind, c) in [(.ddpm, plain), (.eulerAncestral, plain), (.lcm, plain), (.tcd, plain), (.dpm, sde)]
      as [(SchedulerKind, SchedulerConfiguration)]
    {
      var scheduler = try makeScheduler(kind, c, steps: 5)
      let error = refusal { try scheduler.step(x, at: 0, x, random: nil) }
      #expect(error?.message == "the \(kind.rawValue) scheduler needs a random source")
    }
  }

  @Test("JSON that Python writes with -Infinity is read")
  func pythonInfinity() throws {
    let c = try configured(#"{"lambda_min_clipped": -Infinity, "solver_order": 2, "timestep_spacing": null}"#)
    #expect(c.lambdaMinClipped == nil)
    #expect(try makeScheduler(.dpm, c, steps: 10).timesteps.count == 10)
  }

  @Test("A configuration with wrong types, absurd values or unknown switches is refused by its key")
  func refused() throws {
    for (json, part) in [
      (#"{"num_train_timesteps": "x"}"#, "num_train_timesteps"),
      (#"{"num_train_timesteps": 0}"#, "“num_train_timesteps” is 0; it must be in 1…100000"),
      (#"{"num_train_timesteps": 1000000000}"#, "1…100000"), (#"{"num_train_timesteps": -1}"#, "1…100000"),
      (
        #"{"beta_start": -1}"#,
        "scheduler_config.json: “beta_start”, “beta_end” or “trained_betas” give a β outside 0…1"
      ),
      (#"{"beta_end": 2}"#, "outside 0…1"),
      (#"{"beta_start": NaN, "beta_end": Infinity}"#, "scheduler_config.json"),
      (#"{"beta_schedule": "sigmoid"}"#, "supported: linear, scaled_linear, squaredcos_cap_v2"),
      (#"{"beta_schedule": 3}"#, "beta_schedule"),
      (
        #"{"trained_betas": [0.1]}"#,
        "scheduler_config.json: “trained_betas” has 1 entries, and “num_train_timesteps” is 1000"
      ),
      (#"{"trained_betas": [0.1, null]}"#, "trained_betas"),
      (#"{"prediction_type": "flow"}"#, "prediction_type"),
      (#"{"timestep_spacing": "x"}"#, "timestep_spacing"),
      (#"{"final_sigmas_type": "x"}"#, "final_sigmas_type"),
      (
        #"{"solver_order": 4}"#,
        "“solver_order” is 4 and not 1, 2 or 3, which dpm++ cannot do; `scheduler ddim`"
      ),
      (#"{"algorithm_type": "rk4"}"#, "algorithm_type"), (#"{"solver_type": "rk4"}"#, "solver_type"),
      (#"{"algorithm_type": "dpmsolver"}"#, "while “final_sigmas_type” is not sigma_min"),
      (
        #"{"algorithm_type": "sde-dpmsolver", "solver_order": 3, "final_sigmas_type": "sigma_min"}"#,
        "and “solver_order” is 3"
      ),
      (#"{"use_karras_sigmas": true, "use_beta_sigmas": true}"#, "“use_beta_sigmas” are both true"),
      (#"{"use_flow_sigmas": true}"#, "use_flow_sigmas"),
      (#"{"sigma_min": 0}"#, "“sigma_min” is 0.0; it must be above 0"),
      (#"{"sigma_min": 2, "sigma_max": 1}"#, "must be the larger"),
      (#"{"use_karras_sigmas": true, "sigma_min": 200}"#, "and the smallest, “sigma_min”, 200.0; take these"),
      (
        #"{"thresholding": true, "dynamic_thresholding_ratio": 2}"#,
        "“dynamic_thresholding_ratio” is 2.0; it must be in 0…1"
      ),
      (#"{"thresholding": true, "sample_max_value": -1}"#, "“sample_max_value” is -1.0; it must be above 0"),
      (#"{"timestep_scaling": 0}"#, "timestep_scaling"),
      (#"{"disable_corrector": "x"}"#, "disable_corrector"),
      (#"{"num_train_timesteps": 5000, "beta_start": 0.9, "beta_end": 0.99}"#, "nothing of the image"),
      (#"{"variance_type": "learned_range"}"#, "variance_type"),
      (#"{"clip_sample_range": -1}"#, "“clip_sample_range” is -1.0; it must be above 0"),
      (
        #"{"steps_offset": -1, "timestep_spacing": "leading"}"#,
        "scheduler_config.json: “steps_offset” is -1; it must be in 0…999"
      ),
      (
        #"{"steps_offset": 950, "timestep_spacing": "leading"}"#,
        "10 steps with “steps_offset” 950 begin at timestep 1850, and the last one is 999"
      ),
      (
        #"{"num_train_timesteps": 5}"#, "10 steps; choose a number in 1…5"
      ),
      (#"{"steps_offset": 9223372036854775807, "timestep_spacing": "leading"}"#, "steps_offset"),
      (#"{"lambda_min_clipped": 1e30}"#, "lambda_min_clipped"),
      (#"{"_use_default_values": 3}"#, "_use_default"),
      (
        #"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#,
        "“FlowMatchEulerDiscreteScheduler”, which is no"
      ),
      (#"{"_class_name": ["LCMScheduler"]}"#, "_class_name"),
      (#"[]"#, "scheduler_config.json"),
    ] {
      let error = refusal { try makeScheduler(.dpm, configured(json), steps: 10) }
      #expect(error?.message.contains(part) == true, "\(json): \(error?.message ?? "")")
      #expect(error?.message.contains("\n") == false)
    }
    let short = refusal { try makeScheduler(.pndm, configured(#"{"skip_prk_steps": false}"#), steps: 3) }
    #expect(short?.message == "3 steps; pndm with “skip_prk_steps” false needs 4 or more")
    // Switches of another scheduler do not matter.
    let flow = try configured(#"{"use_flow_sigmas": true, "solver_order": 4}"#)
    #expect(try makeScheduler(.pndm, flow, steps: 10).timesteps.count == 12 + 7)
    for (kind, json, part) in [
      (.pndm, #"{"prediction_type": "sample"}"#, "which pndm cannot do; `scheduler dpm++` works"),
      (.eulerAncestral, #"{"prediction_type": "sample"}"#, "which euler-a cannot do"),
      (.pndm, #"{"skip_prk_steps": false, "num_train_timesteps": 3}"#, "10 steps; choose a number in 1…3"),
      (.unipc, #"{"predict_x0": false}"#, "“predict_x0” is false"),
      (.unipc, #"{"shift_terminal": 0.1}"#, "“shift_terminal” is not null"),
      (.euler, #"{"timestep_type": "continuous"}"#, "“timestep_type” is “continuous” and not discrete"),
      (.euler, #"{"use_exponential_sigmas": true, "sigma_max": 0.01}"#, "“sigma_max”, would be 0.01"),
      (.lcm, #"{"original_inference_steps": 2000}"#, "“original_inference_steps” is 2000"),
      (.tcd, #"{"original_inference_steps": 5}"#, "choose a number in 1…5"),
      (
        .ddim, #"{"rescale_betas_zero_snr": true}"#,
        "predicts epsilon, which ddim cannot do; `scheduler dpm++`"
      ),
    ] as [(SchedulerKind, String, String)] {
      let error = refusal { try makeScheduler(kind, configured(json), steps: 10) }
      #expect(error?.message.contains(part) == true, "\(json): \(error?.message ?? "")")
    }
  }

  @Test("DEIS is taken for DPM-Solver++, and LCM's and TCD's own file says what the model was distilled for")
  func otherSchedulersFiles() throws {
    let deis = try configured(
      #"{"_class_name": "DEISMultistepScheduler", "algorithm_type": "deis", "solver_type": "logrho"}"#)
    let plain = try states(makeScheduler(.dpm, configured("{}"), steps: 6))
    for (a, b) in zip(try states(makeScheduler(.dpm, deis, steps: 6)), plain) {
      #expect(try a.doubles() == b.doubles())
    }
    #expect(try configured(#"{"_class_name": "LCMScheduler"}"#).distilledFor == .lcm)
    #expect(try configured(#"{"_class_name": "TCDScheduler"}"#).distilledFor == .tcd)
  }

  @Test("Keys that no scheduler has are told, those of other schedulers not")
  func unknownKeys() throws {
    let c = try configured(
      #"{"beta_shedule": "linear", "rho": null, "tau_func": 1, "_diffusers_version": "0.6.0", "s_noise": 1}"#)
    #expect(c.unknownKeys == ["beta_shedule", "s_noise"])
    let golden = try SchedulerGolden.load()
    #expect(
      try golden.variants.keys.allSatisfy {
        try golden.configuration($0).unknownKeys.isEmpty
      })
  }

  @Test("The levels of a spread fall where its timesteps repeat")
  func repeatedTimesteps() throws {
    let scheduler = try makeScheduler(.dpm, SchedulerGolden.load().configuration("karras"), steps: 50)
    #expect(Set(scheduler.timesteps).count < 50)
    #expect(try states(scheduler).last?.doubles().allSatisfy(\.isFinite) == true)
  }

  @Test("Any number of steps from 1 to that of training gives finite states or a clear refusal")
  func everyNumberOfSteps() throws {
    let golden = try SchedulerGolden.load()
    for kind in SchedulerKind.allCases {
      let most = kind == .lcm || kind == .tcd ? 50 : 490
      for variant in [
        "plain", "linspace", "leading", "trailing", "karras", "karras-minimum", "beta", "lu", "third-order",
        "third-order-end", "sde-dpmsolver++-heun-2", "sde-karras", "thresholding",
      ] {
        let c = try golden.configuration(variant)
        for steps in [0, -1, 1001, Int.max] {
          #expect(throws: DiffusionError.self) { try makeScheduler(kind, c, steps: steps) }
        }
        for steps in [1, 2, 3, 61, 334, 499, 501, 998, 999, 1000] {
          do {
            let scheduler = try makeScheduler(kind, c, steps: steps)
            #expect(scheduler.timesteps.allSatisfy { (0...999).contains($0) })
            #expect(scheduler.timesteps.count == steps + (kind == .pndm && steps > 1 ? 1 : 0))
            let last = try states(scheduler).last?.doubles() ?? []
            #expect(last.count == 6 && last.allSatisfy(\.isFinite), "\(kind) \(variant) \(steps)")
          } catch let error as DiffusionError {
            #expect(error.message.contains("fewer steps") || error.message.contains("choose a number"))
            #expect(steps > most)
          }
        }
      }
    }
  }

  @Test("5,000 damaged configurations are read or refused, never a crash")
  func mutated() throws {
    let golden = try SchedulerGolden.load()
    var read = 0
    for (seed, name) in ["plain", "trained", "thresholding", "used-defaults", "karras-ends", "lcm-defaults"]
      .enumerated()
    {
      let json = Data(try #require(golden.variants[name]).utf8)
      for data in Mutations(of: json, count: 1000, seed: UInt64(seed)) {
        do {
          let c = try JSONFile.decode(SchedulerConfiguration.self, from: data, name: "s.json")
          let kind = SchedulerKind.allCases[read % SchedulerKind.allCases.count]
          _ = try makeScheduler(kind, c, steps: 10)
          read += 1
        } catch let error as any DescribedError {
          #expect(!error.message.isEmpty)
        }
      }
    }
    #expect(read > 500)
  }
}
