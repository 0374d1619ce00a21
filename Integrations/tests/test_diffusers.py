"""Concepts in diffusers: against the golden values that neti's own tests compare with, and in every use of a pipeline.

Run by Integrations/test. The golden data are made by Tests/Fixtures/sections/integrations.py.
"""

import json
import math
import random
import sys
import tempfile
import unittest
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Integrations/diffusers"))

import accelerate
import peft
import torch
from diffusers import (
    AutoencoderKL, ControlNetModel, DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionPipeline,
    UNet2DConditionModel)
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import neti_concept
from neti_concept import ConceptError, read_concept, split_prompt
from neti_diffusers import NeTIConcepts

DATA = ROOT / "Tests/Fixtures/data/integrations"
GOLDEN = json.loads((DATA / "cases.json").read_text())
PROMPT = "a photo of <toy> on a beach"
torch.set_num_threads(1)


def mini_sd():
    pipe = StableDiffusionPipeline.from_pretrained(
        ROOT / "Models/mini-sd", torch_dtype=torch.float32, safety_checker=None, requires_safety_checker=False)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def four_channels(unet):
    """The same U-Net but for its ends, and an autoencoder to fit: diffusers inpaints with 4 or 9 latent channels only."""
    torch.manual_seed(2)
    other = UNet2DConditionModel.from_config({**unet.config, "in_channels": 4, "out_channels": 4}).eval()
    own = other.state_dict()
    other.load_state_dict({k: v if v.shape == own[k].shape else own[k] for k, v in unet.state_dict().items()})
    vae = AutoencoderKL(
        block_out_channels=(8,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=4,
        layers_per_block=1, norm_num_groups=4, sample_size=128, up_block_types=("UpDecoderBlock2D",) * 4).eval()
    return {"unet": other, "vae": vae}


def concept(name):
    return DATA / f"{name}.safetensors"


def marked(text):
    """A prompt of the golden data with tokens instead of names in braces."""
    return text.replace("{", "<").replace("}", ">")


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pipe = mini_sd()

    def setUp(self):
        self.concepts = NeTIConcepts(self.pipe)
        self.addCleanup(lambda: self.concepts.unload())

    def draw(self, prompt=PROMPT, pipe=None, seed=5, steps=4, guidance=3.0, **more):
        """Latents [B, C, h, w]."""
        return (pipe or self.pipe)(
            prompt, num_inference_steps=steps, guidance_scale=guidance, output_type="latent",
            generator=torch.Generator().manual_seed(seed), **more).images

    def same(self, a, b, tolerance=1e-4):
        self.assertEqual(a.shape, b.shape)
        self.assertLess(((a - b).abs().max() / b.abs().max()).item(), tolerance)

    def differs(self, a, b):
        self.assertGreater(((a - b).abs().max() / b.abs().max()).item(), 0.05)


class Golden(Case):
    def conditioning(self, case):
        """What the U-Net gets for a prompt at a timestep, [layers, 2, S, d], and the place and the vectors of its first concept."""
        for name in case["concepts"]:
            self.concepts.load(concept(name), truncation=case["truncation"].get(name))
        self.pipe.encode_prompt(marked(case["prompt"]), "cpu", 1, False)
        embeds, rows = self.concepts._call.parts[0]
        seen = []
        hook = self.pipe.unet.register_forward_pre_hook(lambda m, a, k: seen.append(k["encoder_hidden_states"]), with_kwargs=True)
        with torch.no_grad():
            self.pipe.unet(torch.zeros(1, self.pipe.unet.config.in_channels, 16, 16), torch.tensor(case["timestep"]), encoder_hidden_states=embeds)
        hook.remove()
        self.concepts.unload()
        at, loaded = rows[0].places[0]
        return seen[0][:, :, 0], at, loaded.concept.vectors

    def test_every_kind_gives_the_formulas_keys_and_values(self):
        expected = load_file(DATA / "expected.safetensors")
        for i, case in enumerate(GOLDEN["cases"]):
            with self.subTest(case["prompt"], timestep=case["timestep"]), warnings.catch_warnings():
                warnings.simplefilter("error")  # the file's hash of the token table is this model's
                got, at, vectors = self.conditioning(case)
                got = torch.stack([got[0 if len(got) == 1 else l] for l in GOLDEN["layers"]])
                got = torch.stack([got[:, 0, at], got[:, 0, at + 1], got[:, 0, -1], got[:, 1, at + vectors - 1]], 1)
                self.same(got, expected[str(i)], 1e-5)

    def test_draws_the_image_that_neti_draws(self):
        p = GOLDEN["picture"]
        case = GOLDEN["cases"][p["case"]]
        golden = load_file(DATA / "picture.safetensors")
        self.concepts.load(concept(case["concepts"][0]))
        arguments = dict(steps=p["steps"], guidance=p["guidance"], seed=p["seed"])
        self.same(self.draw(marked(case["prompt"]), **arguments), golden["latents"])
        image = self.pipe(
            marked(case["prompt"]), num_inference_steps=p["steps"], guidance_scale=p["guidance"], output_type="np",
            generator=torch.Generator().manual_seed(p["seed"])).images[0]
        self.assertLessEqual((torch.tensor(image * 255).round().int() - golden["picture"].int()).abs().max().item(), 1)


class Pipelines(Case):
    """What a pipeline can be asked for gives each image as it is alone."""

    def setUp(self):
        super().setUp()
        self.plain = self.draw("a photo of a cat")
        self.word = self.draw("a photo of cat on a beach")
        self.concepts.load(concept("toy"))
        self.alone = self.draw()

    def test_a_concept_changes_what_is_drawn_and_nothing_without_it(self):
        self.differs(self.alone, self.word)
        self.assertTrue(torch.equal(self.draw("a photo of a cat"), self.plain))
        self.concepts.unload()
        self.assertTrue(torch.equal(self.draw("a photo of cat on a beach"), self.word))
        self.assertNotIn("encode_prompt", vars(self.pipe))
        self.assertEqual(len(self.pipe.unet._forward_pre_hooks), 0)

    def test_batches_of_prompts_and_images(self):
        generators = lambda n: [torch.Generator().manual_seed(5) for _ in range(n)]
        arguments = dict(num_inference_steps=4, guidance_scale=3.0, output_type="latent")
        # The last prompt is what the first gives to everything but the U-Net.
        prompts = [PROMPT, "a photo of a cat", "a photo of cat on a beach"]
        both = self.pipe(prompts, num_images_per_prompt=2, generator=generators(6), **arguments).images
        for i, one in enumerate([self.alone, self.alone, self.plain, self.plain, self.word, self.word]):
            self.same(both[i : i + 1], one)

    def test_without_guidance(self):
        for guidance in (1.0, 0.0):
            off = self.draw(guidance=guidance)
            self.assertTrue(off.isfinite().all())
            self.differs(off, self.draw("a photo of cat on a beach", guidance=guidance))

    def test_negative_prompts(self):
        blue = self.draw(negative_prompt="blue")
        self.differs(blue, self.alone)
        # Towards and away from the same: guidance has no effect.
        both = self.draw(negative_prompt=PROMPT)
        self.same(both, self.draw(guidance=1.0))
        away = self.draw("a photo of a cat", negative_prompt="<toy>")
        self.differs(away, self.draw("a photo of a cat", negative_prompt="cat"))

    def test_embeddings_that_were_kept(self):
        embeds, negative = self.pipe.encode_prompt(PROMPT, "cpu", 1, True)
        again = self.draw(None, prompt_embeds=embeds, negative_prompt_embeds=negative)
        self.same(again, self.alone)

    def test_embeddings_that_were_copied(self):
        embeds, negative = self.pipe.encode_prompt(PROMPT, "cpu", 1, True)
        for copy in (embeds.clone(), torch.cat([embeds]), embeds.double().float()):
            self.same(self.draw(None, prompt_embeds=copy, negative_prompt_embeds=negative.clone()), self.alone)
        # The same values without a concept: which of the two is meant cannot be known.
        self.pipe.encode_prompt("a photo of cat on a beach", "cpu", 1, True)
        with self.assertWarnsRegex(UserWarning, "Give the prompt itself"):
            drawn = self.draw(None, prompt_embeds=embeds.clone(), negative_prompt_embeds=negative)
        self.assertTrue(torch.equal(drawn, self.word))

    def test_embeddings_of_someone_else_are_left_alone(self):
        words = self.draw("a photo of a cat")
        embeds, negative = (e.clone() for e in self.pipe.encode_prompt("a photo of a cat", "cpu", 1, True))
        self.assertTrue(torch.equal(self.draw(None, prompt_embeds=embeds, negative_prompt_embeds=negative), words))

    def test_another_pipeline_of_the_same_parts_draws_plainly(self):
        other = StableDiffusionPipeline(**self.pipe.components, requires_safety_checker=False)
        other.set_progress_bar_config(disable=True)
        self.assertTrue(torch.equal(self.draw("a photo of cat on a beach", other), self.word))

    def test_schedulers_with_timesteps_between(self):
        scheduler = self.pipe.scheduler
        self.addCleanup(setattr, self.pipe, "scheduler", scheduler)
        self.pipe.scheduler = EulerDiscreteScheduler.from_config(scheduler.config, timestep_spacing="linspace")
        self.differs(self.draw(steps=7), self.draw("a photo of cat on a beach", steps=7))

    def test_clip_skip(self):
        # diffusers 0.42 asks for what transformers 5 has no more.
        vars(self.pipe.text_encoder).setdefault("text_model", self.pipe.text_encoder)
        self.addCleanup(vars(self.pipe.text_encoder).pop, "text_model")
        word = self.draw("a photo of cat on a beach", clip_skip=1)
        row = self.pipe.text_encoder.get_input_embeddings().weight[self.pipe.tokenizer("cat").input_ids[1]]
        self.concepts.load(self.word_concept(row.detach()), token="<word>")
        self.same(self.draw("a photo of <word> on a beach", clip_skip=1), word)
        self.same(self.draw("a photo of <word> on a beach"), self.word)

    def word_concept(self, row):
        """A concept file that stands for a word of the vocabulary."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        with safe_open(concept("ti"), "pt") as f:
            metadata = f.metadata()
        file = Path(folder.name) / "word.safetensors"
        save_file({"vectors": row[None].clone(), "placeholder": row.clone()}, file, metadata)
        return file

    def test_several_concepts_in_one_prompt(self):
        self.concepts.load(concept("bare"))
        two = self.draw("<bare> and a <toy> in the snow")
        self.differs(two, self.draw("<bare> and a cat in the snow"))
        self.differs(two, self.draw("vase and a <toy> in the snow"))
        self.concepts.unload("<bare>")
        self.same(self.draw(), self.alone)

    def test_truncation_is_turned_by_loading_again(self):
        self.concepts.load(concept("toy"), truncation=1)
        self.differs(self.draw(), self.alone)
        self.concepts.load(concept("toy"), truncation=128)
        self.same(self.draw(), self.alone)

    def test_half_precision(self):
        pipe = mini_sd().to(torch.bfloat16)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            NeTIConcepts(pipe).load(concept("toy"))
        self.same(self.draw(pipe=pipe).float(), self.alone, 0.3)

    def test_image_to_image_and_inpainting(self):
        image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
        mask = torch.zeros(1, 1, 128, 128)
        mask[..., 32:96, 32:96] = 1
        for kind, parts, more in (
                (StableDiffusionImg2ImgPipeline, {}, {}),
                (StableDiffusionInpaintPipeline, four_channels(self.pipe.unet), {"mask_image": mask})):
            with self.subTest(kind.__name__):
                pipe = kind(**self.pipe.components | parts, requires_safety_checker=False)
                pipe.set_progress_bar_config(disable=True)
                word = self.draw("a photo of cat on a beach", pipe, image=image, strength=0.8, **more)
                self.concepts.unload()
                self.concepts = NeTIConcepts(pipe) if parts else NeTIConcepts(self.pipe, pipe)
                self.concepts.load(concept("toy"))
                self.differs(self.draw(PROMPT, pipe, image=image, strength=0.8, **more), word)
                self.assertTrue(torch.equal(self.draw("a photo of cat on a beach", pipe, image=image, strength=0.8, **more), word))
                if not parts:
                    self.same(self.draw(), self.alone)

    def test_controlnet_gets_the_category_word(self):
        self.concepts.unload()
        controlnet = ControlNetModel.from_unet(self.pipe.unet)
        pipe = StableDiffusionControlNetPipeline(**self.pipe.components, controlnet=controlnet, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        seen = []
        controlnet.register_forward_pre_hook(lambda m, a, k: seen.append(k["encoder_hidden_states"]), with_kwargs=True)
        image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
        word = self.draw("a photo of cat on a beach", pipe, image=image)
        first = seen[0]
        self.concepts = NeTIConcepts(pipe)
        self.concepts.load(concept("toy"))
        seen.clear()
        self.differs(self.draw(PROMPT, pipe, image=image), word)
        self.assertTrue(all(torch.equal(s, first) for s in seen))

    def test_compiled(self):
        unet, encoder = self.pipe.unet, self.pipe.text_encoder
        self.concepts.unload()
        torch._dynamo.reset()
        try:
            self.pipe.unet = torch.compile(unet, backend="eager", fullgraph=True)
            self.pipe.text_encoder = torch.compile(encoder, backend="eager")
            self.concepts = NeTIConcepts(self.pipe)
            self.concepts.load(concept("toy"))
            self.same(self.draw(), self.alone)
            self.same(self.draw("a photo of cat on a beach"), self.word)
            self.concepts.unload()
        finally:
            self.pipe.unet, self.pipe.text_encoder = unet, encoder

    def test_compiled_after_loading(self):
        unet = self.pipe.unet
        torch._dynamo.reset()
        try:
            self.pipe.unet = torch.compile(unet, backend="eager")
            self.same(self.draw(), self.alone)
        finally:
            self.pipe.unet = unet

    def test_offloaded(self):
        pipe = mini_sd()
        for part in (pipe.vae, pipe.text_encoder, pipe.unet):
            accelerate.cpu_offload(part, "cpu")  # weights are in memory during each module's forward only
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            NeTIConcepts(pipe).load(concept("toy"))
        self.same(self.draw(pipe=pipe), self.alone)

    def test_lora(self):
        pipe = mini_sd()
        for part, targets in ((pipe.unet, ["to_k", "to_v"]), (pipe.text_encoder, ["q_proj", "v_proj"])):
            torch.manual_seed(3)
            peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False), part, "style")
        word = self.draw("a photo of cat on a beach", pipe)
        self.differs(word, self.word)
        concepts = NeTIConcepts(pipe)
        concepts.load(self.word_concept(
            pipe.text_encoder.get_input_embeddings().weight[pipe.tokenizer("cat").input_ids[1]].detach()), token="<word>")
        for more in ({}, {"cross_attention_kwargs": {"scale": 0.5}}):
            self.same(
                self.draw("a photo of <word> on a beach", pipe, **more), self.draw("a photo of cat on a beach", pipe, **more))


class Refusals(Case):
    """What cannot work is refused with one line."""

    def refused(self, text, call, *args, **kwargs):
        with self.assertRaises(ConceptError) as caught:
            call(*args, **kwargs)
        self.assertRegex(str(caught.exception), text)
        self.assertTrue(str(caught.exception).isprintable(), str(caught.exception))

    def test_prompts_that_are_too_long(self):
        self.concepts.load(concept("toy"))
        self.refused("nearer to the start", self.draw, "a red cat " * 11 + "<toy>")
        self.draw("<toy> " + "a red cat " * 11)

    def test_tokens_and_truncation(self):
        self.concepts.load(concept("toy"))
        self.refused("is taken", self.concepts.load, concept("ti"), token="<toy>")
        self.refused("empty or has spaces", self.concepts.load, concept("ti"), token=" x")
        self.refused("from 1 to 128", self.concepts.load, concept("toy"), truncation=129)
        self.refused("from 1 to 128", self.concepts.load, concept("toy"), truncation=True)
        self.refused("no hidden units", self.concepts.load, concept("ti"), truncation=4)
        self.refused("no concept is loaded as '<x>'", self.concepts.unload, "<x>")

    def test_pipelines_of_another_family(self):
        class Other:
            unet = text_encoder = None
        self.refused("not a pipeline of Stable Diffusion", NeTIConcepts, Other())
        self.refused("share one U-Net", NeTIConcepts, self.pipe, mini_sd())
        other = NeTIConcepts(self.pipe)
        other.load(concept("toy"))
        self.addCleanup(other.unload)
        self.refused("another NeTIConcepts", self.concepts.load, concept("toy"))

    def test_processors_of_others(self):
        class IPAdapterAttnProcessor:
            def __call__(self, attn, x, encoder_hidden_states=None, attention_mask=None): ...
        attention = self.pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2
        before = attention.processor
        try:
            attention.processor = IPAdapterAttnProcessor()
            self.refused("mid_block.*IPAdapterAttnProcessor", self.concepts.load, concept("toy"))
            attention.processor = before
            self.concepts.load(concept("toy"))
            attention.processor = before
            self.refused("unload.. and load them again", self.draw)
            self.draw("a photo of a cat")  # harmless without a concept
        finally:
            self.concepts.unload()
            attention.processor = before


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "concept.safetensors"
        with safe_open(concept("toy"), "pt") as f:
            self.metadata = f.metadata()
        self.tensors = load_file(concept("toy"))

    def refused(self, text, **metadata):
        save_file(self.tensors, self.path, {k: v for k, v in (self.metadata | metadata).items() if v is not None})
        with self.assertRaises(ConceptError) as caught:
            read_concept(self.path)
        self.assertRegex(str(caught.exception), text)
        self.assertTrue(str(caught.exception).isprintable() and len(str(caught.exception)) < 400, str(caught.exception))

    def changed(self, key, **fields):
        return {key: json.dumps(json.loads(self.metadata[key]) | fields)}

    def test_versions(self):
        self.refused("newer than this module reads .2.x.; update", **{"neti.version": "3.0"})
        self.refused("not a neti concept", **{"neti.version": None})
        for version in ("", "x", "0.9", "1" * 5000, "-1.0", "1x"):
            self.refused("not a version", **{"neti.version": version})
        self.metadata["neti.version"] = "1.9"
        save_file(self.tensors, self.path, self.metadata | {"neti.unknown": "x"})
        read_concept(self.path)

    def test_metadata(self):
        self.refused("unknown representation", **{"neti.representation": "a\nb" * 1000})
        self.refused("missing", **{"neti.about": None})
        for text in ("", "[]", "{", "[" * 100_000, "1"):
            self.refused("JSON", **{"neti.about": text})
        for field, value in (
            ("timeAnchors", 10**30), ("timeAnchors", True), ("timeAnchors", 7), ("targetNorm", -1), ("targetNorm", 10**400),
            ("targetNorm", math.nan), ("hiddenSize", 127), ("layerCount", 10**9), ("outputBypass", 1), ("kind", "space")):
            with self.subTest(field, value=str(value)[:20]):
                self.refused("neti.mapper|do not fit together|JSON", **self.changed("neti.mapper", **{field: value}))
        self.refused("token", **self.changed("neti.about", token=3))
        self.refused("base", **self.changed("neti.about", base=[]))
        base = json.loads(self.metadata["neti.about"])["base"]
        self.refused("several text encoders", **self.changed("neti.about", base=base | {"hiddenSizes": [64, 64]}))
        self.refused("loras", **self.changed("neti.about", base=base | {"loras": [1]}))

    def test_what_it_was_learned_on(self):
        base = json.loads(self.metadata["neti.about"])["base"] | {"loras": ["style.safetensors:0.8"]}
        training = "model:\n  clip_skip: 2\n  kind: neti\n"
        save_file(self.tensors, self.path, self.metadata | self.changed("neti.about", base=base, training=training))
        read = read_concept(self.path)
        self.assertEqual((read.loras, read.clip_skip), (("style.safetensors:0.8",), 2))
        self.assertEqual((read_concept(concept("toy")).loras, read_concept(concept("toy")).clip_skip), ((), 1))

    def test_tensors(self):
        good = dict(self.tensors)
        for name, change in (
            ("output.weight", lambda t: t[:5].clone()), ("frequencies", lambda t: t[0].clone()), ("norm1.bias", lambda t: t * math.nan),
            ("hidden1.weight", lambda t: t.int()), ("placeholder", lambda t: t[:0].clone())):
            with self.subTest(name):
                self.tensors = good | {name: change(good[name])}
                self.refused(name)
        self.tensors = good | {"more\n": torch.zeros(1)}
        self.refused("not part of")
        self.tensors = {k: v for k, v in good.items() if k != "norm2.weight"}
        self.refused("norm2.weight is missing")
        self.tensors = good | {"optimizer.step": torch.zeros(1)}  # a checkpoint
        save_file(self.tensors, self.path, self.metadata)
        read_concept(self.path)

    def test_what_is_no_file(self):
        for make in (lambda p: None, lambda p: p.write_bytes(b""), lambda p: p.write_bytes(b"\xff" * 100), lambda p: p.mkdir()):
            make(self.path)
            with self.assertRaises(ConceptError):
                read_concept(self.path)
            if self.path.is_file():
                self.path.unlink()
        with self.assertRaisesRegex(ConceptError, f"^{self.path.name}: this is a folder; name the concept's file in it"):
            read_concept(f"{self.path}/")
        neti_concept.LARGEST_FILE, kept = 1000, neti_concept.LARGEST_FILE
        self.addCleanup(setattr, neti_concept, "LARGEST_FILE", kept)
        with self.assertRaisesRegex(ConceptError, "bytes, which no concept has"):
            read_concept(concept("toy"))

    def test_mutations(self):
        """Bytes of the header and cuts: a line, or a concept; nothing else."""
        good = concept("bare").read_bytes()
        header = 8 + int.from_bytes(good[:8], "little")
        source = random.Random(7)
        refused = 0
        for _ in range(5000):
            bad = bytearray(good)
            for _ in range(source.choice((1, 1, 2, 8))):
                bad[source.randrange(header)] = source.randrange(256)
            if source.random() < 0.1:
                bad = bad[: source.randrange(len(bad))]
            self.path.write_bytes(bad)
            try:
                c = read_concept(self.path)
                c.embeddings(500, len(c.layers))
            except ConceptError as error:
                refused += 1
                self.assertTrue(str(error).isprintable() and len(str(error)) < 400, str(error))
        self.assertGreater(refused, 1000)

    def test_other_sizes(self):
        c = read_concept(concept("toy"))
        with self.assertRaisesRegex(ConceptError, "hidden size 128 and 16 cross-attention layers; X has 768 and 16"):
            c.check_base(768, list(c.layers), "X")
        with self.assertRaisesRegex(ConceptError, "16 others"):
            c.check_base(128, list(reversed(c.layers)), "X")
        c.check_base(128, list(c.layers), "X")


class Prompts(unittest.TestCase):
    def test_tokens_are_found_literally_the_longest_first(self):
        tokens = ["<toy>", "<toy>2", "."]
        self.assertEqual(split_prompt("a <toy>2 b<toy>.", tokens), ["a ", 1, " b", 0, 2])
        self.assertEqual(split_prompt("<TOY> x", tokens), ["<TOY> x"])
        self.assertEqual(split_prompt("x", []), ["x"])
        self.assertEqual(split_prompt("", tokens), [])

    def test_tokens_without_brackets_are_whole_words(self):
        for text, tokens, pieces in (
            ("a cat in a catalog, concat", ["cat"], ["a ", 0, " in a catalog, concat"]),
            ("cat,cat_1 cat2 (cat)", ["cat"], [0, ",cat_1 cat2 (", 0, ")"]),
            ("catcat cat", ["cat"], ["catcat ", 0]),
            ("a cat sits", ["cat", "cat sit"], ["a ", 0, " sits"]),
            ("x<toy>y <toy", ["<toy", "<toy>"], ["x", 1, "y ", 0]),
            ("<toys", ["<toy"], ["<toys"]),
            ("我的猫在海滩上", ["猫"], ["我的", 0, "在海滩上"]),
            ("ein Ma\u0308rchen", ["M\u00e4rchen"], ["ein ", 0]),
            ("caf\u00e9 cafe", ["cafe"], ["caf\u00e9 ", 0]),
            ("a cafe\u0301", ["caf\u00e9", "cafe"], ["a ", 0])):
            with self.subTest(text):
                self.assertEqual(split_prompt(text, tokens), pieces)


if __name__ == "__main__":
    unittest.main()
