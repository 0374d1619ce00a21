"""What of the ComfyUI nodes needs no ComfyUI: a stand-in has the parts of its CLIP and U-Net that they know.

Run by Integrations/test. Integrations/comfyui/check.py does the same in a real ComfyUI.
"""

import dataclasses
import importlib.util
import json
import os
import sys
import types
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
for folder in ("Integrations/comfyui", "Integrations/diffusers", "Tests/Fixtures/sections"):
    sys.path.insert(0, str(ROOT / folder))

import torch
from PIL import Image
from neti import encode_states  # the formulas of the golden data
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from neti_concept import ConceptError, read_concept
from neti_patch import LAYER_OF_BLOCK, LAYERS, ConceptPrompt, UsedConcept, check_model

DATA = ROOT / "Tests/Fixtures/data/integrations"
GOLDEN = json.loads((DATA / "cases.json").read_text())


class Clip:
    """mini-sd's text encoder with ComfyUI's way to be called: sections of (token or vector, weight)."""

    def __init__(self):
        self.cond_stage_model = CLIPTextModel.from_pretrained(ROOT / "Models/mini-sd/text_encoder", torch_dtype=torch.float32)
        self.tokenizer = CLIPTokenizer.from_pretrained(ROOT / "Models/mini-sd/tokenizer")

    def tokenize(self, text):
        tokens, ends = [], (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        for i, part in enumerate(text.replace(")", "(").split("(")):  # (words:1.5)
            words, _, weight = part.partition(":")
            tokens += [(t, float(weight or 1)) for t in self.tokenizer(words, add_special_tokens=False).input_ids]
        sections = []
        while tokens or not sections:
            own, tokens = tokens[:30], tokens[30:]
            sections.append([(ends[0], 1.0), *own, (ends[1], 1.0), *[(ends[1], 1.0)] * (30 - len(own))])
        return {"l": sections}

    def encode_from_tokens(self, tokens, return_pooled=False):
        table = self.cond_stage_model.get_input_embeddings().weight
        sections = tokens["l"]
        weights = torch.tensor([[w for _, w in s] for s in sections])
        empty = self.tokenize("")["l"] if (weights != 1).any() else []
        rows = [torch.stack([t if torch.is_tensor(t) else table[t] for t, _ in s]) for s in [*sections, *empty]]
        with torch.no_grad():
            out = self.cond_stage_model.final_layer_norm(encode_states(self.cond_stage_model, torch.stack(rows)))
        if empty:
            out = (out[:-1] - out[-1]) * weights[..., None] + out[-1]
        out = out.reshape(1, -1, out.shape[-1])
        return (out, None) if return_pooled else out


class Sampling:
    """Sigmas are timesteps."""

    @staticmethod
    def timestep(sigma):
        return sigma


class ComfyUI(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.clip = Clip()

    def prompt(self, text, *names, **truncation):
        used = [UsedConcept(read_concept(DATA / f"{n}.safetensors"), f"<{n}>", truncation.get(n)) for n in names]
        return ConceptPrompt(self.clip, Sampling, used, text)

    def embedding(self, text):
        return self.clip.encode_from_tokens(self.clip.tokenize(text))

    def patched(self, prompt, keys, layer=0, timestep=981.0):
        block = next(b for b, l in LAYER_OF_BLOCK.items() if l == layer)
        options = {"block": block, "sigmas": torch.tensor([timestep]), "cond_or_uncond": [0]}
        queries = torch.zeros(len(keys), 4, 8)
        return prompt(queries, keys, keys, options)[1:]

    def same(self, a, b, tolerance=1e-5):
        self.assertEqual(a.shape, b.shape)
        self.assertLess(((a - b).abs().max() / b.abs().max()).item(), tolerance)

    def test_every_kind_gives_the_formulas_keys_and_values(self):
        expected = load_file(DATA / "expected.safetensors")
        for i, case in enumerate(GOLDEN["cases"]):
            with self.subTest(case["prompt"], timestep=case["timestep"]):
                text = case["prompt"].replace("{", "<").replace("}", ">")
                prompt = self.prompt(text, *case["concepts"], **case["truncation"])
                places = [at for _, at, used, _ in prompt.places if used.token == f"<{case['concepts'][0]}>"]
                at, end = places[0], places[-1]
                self.assertEqual(places, list(range(at, at + read_concept(DATA / f"{case['concepts'][0]}.safetensors").vectors)))
                rows = []
                for layer in GOLDEN["layers"]:
                    keys, values = (t[0] for t in self.patched(prompt, prompt.embedding, layer, case["timestep"]))
                    rows.append(torch.stack([keys[at], keys[at + 1], keys[-1], values[end]]))
                self.same(torch.stack(rows), expected[str(i)])

    def test_blocks_are_those_of_stable_diffusion(self):
        blocks = [("input", i) for i in (1, 2, 4, 5, 7, 8)] + [("middle", 0)] + [("output", i) for i in range(3, 12)]
        self.assertEqual(list(LAYER_OF_BLOCK), blocks)
        self.assertEqual(read_concept(DATA / "toy.safetensors").layers, LAYERS)

    def test_only_its_own_rows_change(self):
        prompt = self.prompt("a photo of <toy>", "toy")
        words, negative = self.embedding("a photo of cat"), self.embedding("blue")
        batch = torch.cat([negative, prompt.embedding, words, prompt.embedding])
        keys, values = self.patched(prompt, batch)
        for i, changed in enumerate([False, True, False, True]):
            self.assertNotEqual(torch.equal(keys[i], batch[i]), changed)
            self.assertNotEqual(torch.equal(values[i], batch[i]), changed)
        self.assertTrue(torch.equal(keys[1], keys[3]))
        alone = torch.cat([negative, words])
        self.assertIs(self.patched(prompt, alone)[0], alone)
        # The mark is small, and the same whenever the prompt is.
        self.assertLess((prompt.embedding - words).abs().max().item(), 0.126)
        self.assertTrue(torch.equal(prompt.embedding, self.prompt("a photo of <toy>", "toy").embedding))

    def test_two_prompts_with_the_same_words_do_not_mix(self):
        one, two = self.prompt("a <toy>", "toy"), self.prompt("a <toy>", "toy", toy=4)
        batch = torch.cat([one.embedding, two.embedding])
        keys, values = self.patched(one, batch)
        both = two(torch.zeros(2, 4, 8), keys, values, {"block": ("input", 1), "sigmas": torch.tensor([981.0])})[1]
        self.same(both[:1], self.patched(one, one.embedding)[0])
        self.same(both[1:], self.patched(two, two.embedding)[0])
        self.assertGreater((both[0] - both[1]).abs().max().item(), 0.05)

    def test_sequences_that_were_repeated_to_one_length(self):
        prompt = self.prompt("a photo of <toy>", "toy")
        keys, _ = self.patched(prompt, prompt.embedding.repeat(1, 3, 1))
        self.same(keys, self.patched(prompt, prompt.embedding)[0].repeat(1, 3, 1))

    def test_half_precision(self):
        prompt = self.prompt("a photo of <toy>", "toy")
        keys, values = self.patched(prompt, prompt.embedding.half())
        whole = self.patched(prompt, prompt.embedding)
        self.same(keys.float(), whole[0], 1e-3)
        self.same(values.float(), whole[1], 1e-3)

    def test_a_prompt_of_two_sections(self):
        long = "a red cat in the snow on a beach " * 4
        prompt = self.prompt(long + "<toy>", "toy")
        self.assertEqual([s for s, *_ in prompt.places], [1])
        keys, values = self.patched(prompt, prompt.embedding)
        self.assertEqual(keys.shape[1], 64)
        self.same(keys[:, :32], prompt.embedding[:, :32])  # before the concept, nothing changes
        at = 32 + prompt.places[0][1]
        different = (keys != values).any(-1)[0].nonzero().flatten().tolist()
        self.assertEqual(different, [at])

    def test_several_vectors_stay_in_one_section(self):
        words = lambda n: self.prompt("red " * n + "<three> in the snow", "three")
        self.assertEqual([(s, at, vector) for s, at, _, vector in words(27).places], [(0, 28, 0), (0, 29, 1), (0, 30, 2)])
        for n in (28, 29):
            with self.assertRaisesRegex(ConceptError, "3 vectors of <three> do not fit"):
                words(n)
        self.assertEqual([s for s, *_ in words(30).places], [1, 1, 1])
        twice = self.prompt("a <three> and a <three>", "three")
        self.assertEqual([vector for *_, vector in twice.places], [0, 1, 2, 0, 1, 2])

    def test_a_category_that_fills_other_sections_than_its_concept(self):
        toy = read_concept(DATA / "toy.safetensors")
        for words, category, sections, length in (
            (28, "red cat cat", (1, 2), 2), (58, "red cat cat", (2, 3), 6), (30, "", (2, 1), 2), (60, "", (3, 2), 6)):
            with self.subTest(words=words, category=category):
                used = UsedConcept(dataclasses.replace(toy, category=category), "<toy>")
                text = "red " * words + "<toy>"
                prompt = ConceptPrompt(self.clip, Sampling, [used], text)
                in_words = len(self.clip.tokenize("red " * words + category)["l"])
                self.assertEqual((len(prompt.sections), in_words), sections)
                self.assertEqual(prompt.embedding.shape[1], 32 * length)
                # The other prompt may be of any length, too.
                for keys in (prompt.embedding, prompt.embedding.repeat(1, 3, 1)):
                    patched = self.patched(prompt, keys)
                    expected = prompt.encode(981.0)[:, :1]
                    for one, own in zip(patched, expected):
                        self.same(one, own.repeat(1, keys.shape[1] // own.shape[1], 1))

    def test_weights(self):
        plain, none, strong = (self.prompt(f"a photo of (<toy>{w})", "toy") for w in ("", ":1.0", ":1.5"))
        at = plain.places[0][1]
        k, v = self.patched(plain, plain.embedding)
        self.same(self.patched(none, none.embedding)[1], v)
        sk, sv = self.patched(strong, strong.embedding)
        empty = self.embedding("")[0, at]
        self.same(sv[0, at], empty + (v[0, at] - empty) * 1.5)
        self.same(sk[0, at], empty + (k[0, at] - empty) * 1.5)

    def test_one_timestep_is_computed_once(self):
        prompt = self.prompt("a photo of <toy>", "toy")
        counted, encode = [], prompt.encode
        prompt.encode = lambda t: counted.append(t) or encode(t)
        for timestep in (981.0, 961.0):
            for layer in range(16):
                self.patched(prompt, prompt.embedding, layer, timestep)
        self.assertEqual(counted, [981.0, 961.0])

    def test_refusals(self):
        with self.assertRaisesRegex(ConceptError, "none of the concepts' tokens: <toy>"):
            self.prompt("a cat", "toy")
        with self.assertRaisesRegex(ConceptError, "two concepts have the token"):
            self.prompt("<toy>", "toy", "toy")
        with self.assertRaisesRegex(ConceptError, "from 1 to 128"):
            self.prompt("<toy>", "toy", toy=0)
        self.clip.tokenize, kept = (lambda text: {"l": [], "g": []}), self.clip.tokenize
        try:
            with self.assertRaisesRegex(ConceptError, "one text encoder"):
                self.prompt("<toy>", "toy")
        finally:
            self.clip.tokenize = kept


    def test_models_of_another_family(self):
        check_model(128, self.embedding("a cat").shape[-1])
        for other, words in ((2048, "takes words of size 2048"), (None, "has no cross-attention")):
            with self.assertRaisesRegex(ConceptError, words + ".*Stable Diffusion 1 and 2"):
                check_model(other, 128)


class Nodes(unittest.TestCase):
    """The nodes, imported as ComfyUI imports them, beside a stand-in for its `folder_paths`."""

    def imported(self, folders):
        paths = types.ModuleType("folder_paths")
        paths.models_dir, paths.folder_names_and_paths = "models", folders
        paths.get_filename_list = lambda name: ["ginger.safetensors"]
        paths.add_model_folder_path = lambda name, folder: folders.setdefault(name, ([], set()))[0].append(folder)
        source = ROOT / "Integrations/comfyui"
        spec = importlib.util.spec_from_file_location(
            "neti_pack", source / "__init__.py", submodule_search_locations=[str(source)])
        pack = importlib.util.module_from_spec(spec)
        with mock.patch.dict(sys.modules, {"folder_paths": paths, "neti_pack": pack}):
            spec.loader.exec_module(pack)
        return pack

    def test_the_folders_that_the_user_named_stay(self):
        own = [os.path.join("models", "neti"), str(ROOT / "Integrations/comfyui/concepts")]
        for folders, before in (({}, []), ({"neti": (["mine"], set())}, ["mine"])):
            self.assertIn("NeTIPrompt", self.imported(folders).NODE_CLASS_MAPPINGS)
            self.assertEqual(folders["neti"], ([*before, *own], {".safetensors"}))

    def test_the_workflow_in_docs_has_the_nodes_as_they_are(self):
        pack = self.imported({})
        text = Image.open(ROOT / "docs/images/comfyui-workflow.png").text
        graph, shown = json.loads(text["prompt"]), json.loads(text["workflow"])
        self.assertEqual(sorted(n["class_type"] for n in graph.values()), sorted(n["type"] for n in shown["nodes"]))
        self.assertEqual({n["class_type"] for n in graph.values()} & set(pack.NODE_CLASS_MAPPINGS), set(pack.NODE_CLASS_MAPPINGS))
        for node in graph.values():
            kind = pack.NODE_CLASS_MAPPINGS.get(node["class_type"])
            if kind:
                takes = kind.INPUT_TYPES()
                self.assertLessEqual(set(takes["required"]), set(node["inputs"]))
                self.assertLessEqual(set(node["inputs"]), set(takes["required"]) | set(takes.get("optional", {})))
                self.assertTrue(callable(getattr(kind, kind.FUNCTION)))

    def test_the_page_that_the_pack_has(self):
        web = ROOT / "Integrations/comfyui" / self.imported({}).WEB_DIRECTORY
        self.assertIn('"LoadNeTIConcept"', (web / "thumbnails.js").read_text())


if __name__ == "__main__":
    unittest.main()
