"""The nodes: load a concept, turn its dial, and write a prompt with it."""

import logging
import os

import folder_paths

from .neti_concept import ConceptError, read_concept
from .neti_patch import ConceptPrompt, UsedConcept, check_model

HERE = os.path.dirname(os.path.abspath(__file__))
# Beside the folders that the user's extra_model_paths.yaml names.
for _folder in (os.path.join(folder_paths.models_dir, "neti"), os.path.join(HERE, "concepts")):
    folder_paths.add_model_folder_path("neti", _folder)
folder_paths.folder_names_and_paths["neti"][1].add(".safetensors")


class LoadNeTIConcept:
    CATEGORY = "neti"
    RETURN_TYPES = ("NETI_CONCEPT",)
    FUNCTION = "load"
    DESCRIPTION = "A concept from models/neti. Without a token, prompts call it by its own, such as <toy>."

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"concept": (folder_paths.get_filename_list("neti"),), "token": ("STRING", {"default": ""})}}

    @classmethod
    def IS_CHANGED(cls, concept, token):
        path = folder_paths.get_full_path("neti", concept)
        return os.stat(path).st_mtime_ns if path else None

    def load(self, concept, token):
        path = folder_paths.get_full_path("neti", concept)
        if path is None:
            raise ConceptError(f"{concept}: there is no such file in models/neti")
        read = read_concept(path)
        token = token.strip() or read.token
        if not token or not token.isprintable():
            raise ConceptError(f"{concept}: the file names no token; write one, such as <toy>")
        if read.loras:
            logging.warning("%s was learned with %s; load that, too", concept, ", ".join(read.loras))
        if read.clip_skip > 1:
            logging.warning(
                "%s was learned with CLIP skip %d; put CLIP Set Last Layer before NeTI Prompt, with %d", concept, read.clip_skip,
                -read.clip_skip)
        return (UsedConcept(read, token),)


class NeTITruncation:
    CATEGORY = "neti"
    RETURN_TYPES = ("NETI_CONCEPT",)
    FUNCTION = "truncate"
    DESCRIPTION = "The dial: a small number follows the prompt more, a large one the training images."

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"concept": ("NETI_CONCEPT",), "units": ("INT", {"default": 64, "min": 1, "max": 128})}}

    def truncate(self, concept, units):
        concept.concept.check_truncation(units)
        return (UsedConcept(concept.concept, concept.token, units),)


class NeTIPrompt:
    CATEGORY = "neti"
    RETURN_TYPES = ("MODEL", "CONDITIONING")
    FUNCTION = "encode"
    DESCRIPTION = "A prompt with concepts. Both outputs go to the sampler: the model knows the conditioning by itself."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL",), "clip": ("CLIP",), "concept": ("NETI_CONCEPT",),
                "text": ("STRING", {"multiline": True, "default": "a photo of <toy> on a beach"})},
            "optional": {f"concept_{i}": ("NETI_CONCEPT",) for i in (2, 3, 4)}}

    def encode(self, model, clip, concept, text, **more):
        patched = model.clone()
        concepts = [concept] + [more[key] for key in sorted(more) if more[key] is not None]
        prompt = ConceptPrompt(clip.clone(), patched.get_model_object("model_sampling"), concepts, text)
        check_model(patched.model.model_config.unet_config.get("context_dim"), prompt.embedding.shape[-1])
        patched.set_model_attn2_patch(prompt)
        return (patched, [[prompt.embedding, {"pooled_output": prompt.pooled}]])


NODE_CLASS_MAPPINGS = {"LoadNeTIConcept": LoadNeTIConcept, "NeTITruncation": NeTITruncation, "NeTIPrompt": NeTIPrompt}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LoadNeTIConcept": "Load NeTI Concept", "NeTITruncation": "NeTI Truncation", "NeTIPrompt": "NeTI Prompt"}
