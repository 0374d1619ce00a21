// Prompts to images: chips for the concepts, the dial, what is forming, and all images so far.
import { ask, concept, studio, usable, watch } from './studio.js'
import { attempt, h, list, setText, toast } from './dom.js'
import { compareSection } from './compare.js'
import { namesIn, regionsField } from './regions.js'
import { formingSection, gallerySection } from './sheets.js'

/** What was typed stays while the page is open. */
const kept = {
  prompt: '', negative: '', seed: 0, count: 4, truncation: null, guidance: null, steps: null, scheduler: null,
  width: null, height: null, layout: 'side-by-side', regions: null,
}
/** Shows what is kept, where that is on the page. */
let refill = null

export function generateView(main, [id]) {
  const wanted = concept(id)
  if (wanted?.name && !kept.prompt.includes(`{${wanted.name}}`)) kept.prompt = `a photo of a {${wanted.name}} on a beach`
  const controls = controlsSection()
  const forming = formingSection()
  const gallery = gallerySection(restore)
  main.append(controls.section, forming.section, gallery.section)
  main.addEventListener('files', (event) => attempt(() => restoreFile(event.detail)))
  refill = controls.fill
  const leave = watch(() => { for (const part of [controls, forming, gallery]) part.update() })
  return () => {
    refill = null
    leave()
  }
}

/** Takes over what the first of some files says of how it was made, wherever on the page it was dropped. */
export async function restoreFile(files) {
  const [file] = files
  if (!file) throw new Error('Nothing that was dropped is a file.')
  if (file.size > studio.about.mostPictureBytes) throw new Error(`${file.name} is too large.`)
  restore(await ask('POST', 'settings', file), files.length > 1 ? `Of ${files.length} files only ${file.name} was read. ` : '')
}

/** What this page has no control for. */
const unknown = {
  lora: 'lora', 'clip skip': 'clip skip', 'prompt weights': 'prompt weights', checkpoint: 'checkpoint', geometry: 'the mixture',
  'frozen at': 'frozen at', 'concept down to': 'concept down to', 'concept within': 'concept within', image: 'the photo',
  'original size': 'original size', crop: 'crop',
}

/** Takes over what an image's file says, and shows it. */
function restore(settings, before = '') {
  if (!settings.prompt) return toast(before + 'This file does not say what made it: it is no image of neti.')
  const { about } = studio
  // Images of the command line have tokens.
  const [names, tokens] = [settings.names, settings.concept].map((text) => (text ?? '').split(' ').filter(Boolean))
  const wanted = names.length ? names : tokens.map((token) => token.replace(/^<(.+)>$/, '$1'))
  const named = (text) => wanted.length === 1 ? text.replaceAll('{}', `{${wanted[0]}}`) : text
  const size = ['width', 'height'].map((name) => Number(settings[name] ?? about.sides.usual))
  const { least, most, step, usual } = about.sides
  const isMade = size.every((side) => side >= least && side <= most && side % step === 0)
  Object.assign(kept, {
    prompt: named(settings.prompt), negative: named(settings['negative prompt'] ?? ''), seed: Number(settings.seed ?? 0), count: 1,
    truncation: settings.truncation ? Number(settings.truncation) : null, guidance: Number(settings.guidance ?? about.guidance),
    steps: Number(settings.steps ?? about.denoisingSteps), scheduler: settings.scheduler ?? null,
    width: isMade && size[0] !== usual ? size[0] : null, height: isMade && size[1] !== usual ? size[1] : null,
    layout: settings.layout ?? 'side-by-side',
  })
  if (settings.regions) kept.regions = { key: namesIn(kept.prompt).join(' '), parts: settings.regions.split(',').map(Number), moved: true }
  if (refill) refill()
  else location.hash = '#generate'
  scrollTo({ top: 0 })
  const missing = wanted.filter((name) => !usable().some((c) => c.name === name))
  const others = Object.keys(unknown).filter((key) => settings[key]).map((key) => unknown[key])
  if (!isMade) others.push(`the size, ${size.join(' × ')}`)
  toast([before, !missing.length ? 'The settings of this image are back'
    : missing.length === 1 ? `The settings are back, but the concept ${missing[0]} is not here`
      : `The settings are back, but these concepts are not here: ${missing.join(', ')}`,
  others.length ? `; not these: ${others.join(', ')}` : '', '.'].join(''))
}

function controlsSection() {
  const about = studio.about
  const bind = (element, name, number) => {
    element.addEventListener('input', () => {
      kept[name] = number ? Number(element.value) : element.value
      if (name === 'prompt') regions.update()
    })
    return element
  }
  const prompt = bind(h('textarea', { id: 'prompt', rows: 2, maxLength: 2000, placeholder: 'a photo of a cat on a beach' }), 'prompt')
  const negative = bind(h('input', { maxLength: 2000, placeholder: 'blurred, dark' }), 'negative')
  const seed = bind(h('input', { type: 'number', min: 0 }), 'seed', true)
  const count = bind(h('input', { type: 'number', min: 1, max: 16 }), 'count', true)
  const steps = bind(h('input', { type: 'number', min: 1, max: 200 }), 'steps', true)
  const guidance = bind(h('input', { type: 'number', min: 0, max: 100, step: 'any' }), 'guidance', true)
  const side = (name) => bind(h('input', { type: 'number', min: about.sides.least, max: about.sides.most, step: about.sides.step }), name, true)
  const [width, height] = [side('width'), side('height')]
  const scheduler = bind(h('select', {}, about.schedulers.map((s) => h('option', {}, s))), 'scheduler')
  const dial = h('input', { type: 'range', id: 'dial', min: 1, max: about.width, step: 1 })
  const dialText = h('span', {})
  const chips = h('div', { class: 'row', role: 'group', 'aria-label': 'Concepts to put into the prompt' })
  const noConcept = h('p', { class: 'quiet' }, 'Concepts that you learn appear here. Without one, the model follows the prompt by itself.')
  const button = h('button', { class: 'main', id: 'generate' }, 'Generate')
  const stop = h('button', { type: 'button', onclick: () => attempt(() => ask('POST', 'generations/stop')) }, 'Stop')
  const regions = regionsField(kept, () => { prompt.value = kept.prompt; regions.update() })

  const hasConcept = () => usable().some((c) => prompt.value.includes(`{${c.name}}`))
  const labels = () => {
    kept.truncation = Number(dial.value) >= about.width ? null : Number(dial.value)
    setText(dialText, kept.truncation === null ? 'The dial: all of the concept' : `The dial: ${dial.value} of ${about.width} parts of the concept`)
  }
  dial.addEventListener('input', labels)
  const request = () => ({
    prompt: prompt.value, negative: negative.value, guidance: Number(guidance.value), steps: Math.round(Number(steps.value)),
    seeds: [...Array(Math.max(1, Math.min(16, Math.round(Number(count.value)) || 1))).keys()]
      .map((i) => Math.round(Number(seed.value || 0)) + i),
    truncation: hasConcept() ? kept.truncation : null, scheduler: scheduler.value,
    width: Math.round(Number(width.value)) || null, height: Math.round(Number(height.value)) || null, ...regions.request(),
  })
  const start = (replace) => attempt(() => ask('POST', 'generations' + (replace ? '?replace=yes' : ''), request()))
  dial.addEventListener('change', () => { if (hasConcept()) start(true) })

  // The studio checks what is typed, and says what is wrong with it where it can be seen.
  const form = h('form', { noValidate: true, onsubmit: (event) => { event.preventDefault(); start(false) } },
    h('label', {}, h('span', {}, 'What the images show'), prompt), h('p', {}), chips, noConcept, regions.element,
    h('div', { class: 'fields' },
      h('label', {}, dialText, dial), h('label', {}, h('span', {}, 'How many images'), count)),
    h('details', {}, h('summary', {}, 'More'), h('div', { class: 'fields' },
      h('label', {}, h('span', {}, 'Guidance: how strongly the prompt leads'), guidance), h('label', {}, h('span', {}, 'What they should not show'), negative),
      h('label', {}, h('span', {}, 'Seed: the same gives the same image'), seed),
      h('label', {}, h('span', {}, 'Denoising steps'), steps),
      h('label', {}, h('span', {}, `Width, in pixels: a multiple of ${about.sides.step}`), width),
      h('label', {}, h('span', {}, `Height, in pixels: ${about.sides.least} to ${about.sides.most}`), height),
      h('label', {}, h('span', {}, 'Scheduler'), scheduler))),
    compareSection(request), h('p', {}), h('div', { class: 'row' }, button, stop))
  const section = h('section', {}, h('h2', {}, 'Generate'), form)

  function insert(name) {
    const text = `{${name}}`
    if (prompt.value.includes(text)) return prompt.focus()
    const at = document.activeElement === prompt ? prompt.selectionStart : prompt.value.length
    const before = prompt.value.slice(0, at)
    prompt.value = before + (before && !before.endsWith(' ') ? ' ' : '') + text + prompt.value.slice(at)
    kept.prompt = prompt.value
    prompt.focus()
    regions.update()
  }

  /** Fills the controls. */
  function fill() {
    prompt.value = kept.prompt
    negative.value = kept.negative
    seed.value = kept.seed
    count.value = kept.count
    steps.value = kept.steps ?? about.denoisingSteps
    guidance.value = kept.guidance ?? about.guidance
    scheduler.value = kept.scheduler ?? about.scheduler
    width.value = kept.width || about.sides.usual
    height.value = kept.height || about.sides.usual
    dial.value = kept.truncation ?? about.width
    labels()
    regions.update()
  }
  fill()

  return {
    section, fill,
    update: () => {
      list(chips, usable(), (c) => c.id, (c) => h('button', {
        type: 'button', class: 'chip', title: `Put {${c.name}} into the prompt`, onclick: () => insert(c.name),
      }, '+ ' + c.title), (chip, c) => setText(chip, '+ ' + c.title))
      noConcept.hidden = usable().length > 0
      dial.disabled = !usable().length
      stop.disabled = !studio.work.generating && !studio.work.toGenerate
      regions.update()
    },
  }
}
