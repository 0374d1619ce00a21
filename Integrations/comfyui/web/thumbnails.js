// Load NeTI Concept lists the concepts of models/neti with their thumbnails, which `neti export` puts into their files.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const SIDE = 72;

/** The picture in a concept's metadata, as a data URL; none where the file has none. */
async function thumbnail(name) {
  try {
    const answer = await api.fetchApi(`/view_metadata/neti?filename=${encodeURIComponent(name)}`);
    const text = answer.ok ? (await answer.json())["modelspec.thumbnail"] : null;
    return typeof text === "string" && /^data:image\/(png|jpeg|webp);base64,/.test(text) ? text : null;
  } catch {
    return null;
  }
}

app.registerExtension({
  name: "neti.thumbnails",
  nodeCreated(node) {
    if (node.comfyClass !== "LoadNeTIConcept") return;
    const concept = node.widgets.find((w) => w.name === "concept");
    const list = document.createElement("div");
    list.style.cssText = "display: flex; flex-wrap: wrap; gap: 6px; overflow-y: auto; align-content: flex-start;";
    const pictures = new Map();

    const mark = () => {
      for (const [name, picture] of pictures) {
        picture.style.outline = name === concept.value ? "2px solid #4a90e2" : "none";
      }
    };
    const choose = concept.callback;
    concept.callback = function (...given) {
      const result = choose?.apply(this, given);
      mark();
      return result;
    };
    const configured = node.onConfigure;
    node.onConfigure = function (...given) {
      configured?.apply(this, given);
      mark();
    };

    const fill = (names) => {
      pictures.clear();
      for (const name of names) {
        const picture = document.createElement("div");
        picture.title = name;
        picture.textContent = name.replace(/\.safetensors$/, "");
        picture.style.cssText =
          `width: ${SIDE}px; height: ${SIDE}px; font: 10px sans-serif; overflow: hidden; cursor: pointer; ` +
          "border-radius: 4px; background: #333 center / cover; color: #eee; text-shadow: 0 0 3px #000, 0 0 3px #000;";
        picture.onclick = () => {
          concept.value = name;
          concept.callback(name);
          app.graph.setDirtyCanvas(true);
        };
        pictures.set(name, picture);
        thumbnail(name).then((url) => {
          if (url) picture.style.backgroundImage = `url("${url}")`;
        });
      }
      list.replaceChildren(...pictures.values());
      mark();
    };
    // “Refresh Node Definitions” (R) lists what has come into models/neti.
    const refreshed = node.refreshComboInNode;
    node.refreshComboInNode = function (...given) {
      refreshed?.apply(this, given);
      fill(given[0]?.LoadNeTIConcept?.input?.required?.concept?.[0] ?? []);
    };
    fill(concept.options.values ?? []);
    node.addDOMWidget("thumbnails", "thumbnails", list, { serialize: false, getMinHeight: () => SIDE + 8 });
  },
});
