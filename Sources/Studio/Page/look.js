// What a concept is made of: beside its pictures, over the denoising process, unit by unit, mixed with another.
import { ask, concept, square, studio, usable, watch } from './studio.js'
import { attempt, h, list, sentence, setSource, setText } from './dom.js'
import { restoreFile } from './generate.js'
import { cells, formingSection, sheetTable } from './sheets.js'

/** The tables that this page asked for, by concept and kind. */
const asked = new Map()

/** The newest table of a concept, of those that `fits`. */
function newest(key, fits) {
  const mine = asked.get(key)
  if (mine && cells(mine).length) return mine
  return studio.images.find((image) => image.settings.sheet && fits(image.settings))?.settings.sheet ?? mine
}

export function lookView(main, [id]) {
  const wanted = concept(id)
  const choice = h('select', { id: 'which', onchange: () => { location.hash = '#look/' + choice.value } })
  const none = h('p', { class: 'quiet' }, 'Learn a concept first; then look into it here.')
  const head = h('section', {}, h('h2', {}, 'Look inside'), h('label', {}, h('span', {}, 'The concept'), choice), none)
  const forming = formingSection()
  main.append(head, forming.section)
  main.addEventListener('files', (event) => attempt(() => restoreFile(event.detail)))
  let parts
  function update() {
    const all = usable()
    none.hidden = all.length > 0
    choice.parentElement.hidden = !all.length
    list(choice, all, (c) => c.id, (c) => h('option', { value: c.id }), (option, c) => setText(option, c.title))
    const c = all.find((one) => one.id === (wanted?.id ?? all[0]?.id))
    if (c && !parts) {
      choice.value = c.id
      parts = [beside(c), importance(c), strip(c), mixture(c)]
      main.append(...parts.map((part) => part.section))
    }
    forming.update()
    for (const part of parts ?? []) part.update?.()
  }
  return watch(update)
}

/** A place for the newest table of its kind. */
function result(key, fits, show = (sheet) => sheetTable(sheet)) {
  const place = h('div', {})
  let shown, view
  return {
    place,
    update: () => {
      const sheet = newest(key, fits)
      if (!sheet) return
      if (sheet !== shown) {
        shown = sheet
        view = show(sheet)
        place.replaceChildren(view.element)
      }
      view.update()
    },
  }
}

const start = (key, path, body) => attempt(async () => { asked.set(key, (await ask('POST', path, body)).id) })

/** The training pictures, and new images under them. */
function beside(c) {
  const prompt = h('input', { value: `a photo of a {${c.name}}`, maxLength: 2000 })
  const table = result(`${c.id} beside`, (s) => s.names === c.name && /^seed /.test(s.column ?? '') && !s.row)
  const pictures = h('div', { class: 'tiles small' }, c.pictures.map((p) => h('img', {
    src: square(c, p), alt: `Learned from: picture ${p.number}`, loading: 'lazy',
  })))
  const section = h('section', { id: 'beside' }, h('h2', {}, 'Beside its pictures'),
    c.pictures.length ? pictures : h('p', { class: 'quiet' }, 'It came as a file, without its pictures.'),
    h('div', { class: 'fields' }, h('label', {}, h('span', {}, 'What the images show'), prompt)), h('p', {}),
    h('button', { type: 'button', onclick: () => start(`${c.id} beside`, 'grids', {
      base: { prompt: prompt.value, seeds: [0] }, columns: { kind: 'seed', values: ['0', '1', '2', '3'] },
    }) }, 'Generate beside them'), table.place)
  return { section, update: table.update }
}

/** The plot of `neti inspect --plot`. */
function importance(c) {
  const problem = h('p', { class: 'warn' })
  const image = h('img', { class: 'plot', alt: `How much each of the hidden units of ${c.title} contributes; the first contribute most.` })
  const details = h('details', { ontoggle: () => attempt(async () => {
    if (!details.open || image.src) return
    const response = await fetch(`/api/concepts/${c.id}/importance`)
    if (!response.ok) return setText(problem, sentence(await response.text()))
    image.src = URL.createObjectURL(await response.blob())
  }) }, h('summary', {}, 'Show the plot'), image, problem)
  return {
    section: h('section', { id: 'importance' }, h('h2', {}, 'What its units contribute'),
      h('p', { class: 'quiet' }, 'The dial keeps the first of them. What comes early is the gist, what comes late the details.'), details),
  }
}

const views = {
  frozen: 'as it is at one moment', cumulative: 'down to a moment, then the plain word', windows: 'within a part only',
}

/** The decomposition of the paper's section 4.2. */
function strip(c) {
  const prompt = h('input', { value: 'a photo of a {}', maxLength: 2000 })
  const view = h('select', {}, Object.entries(views).map(([value, text]) => h('option', { value }, text)))
  const count = h('input', { type: 'number', min: 1, max: 10, value: 5 })
  const seed = h('input', { type: 'number', min: 0, value: 0 })
  const token = `<${c.name}>`
  const table = result(`${c.id} strip`, (s) => s.concept === token && (s['frozen at'] || s['concept down to'] || s['concept within']))
  const section = h('section', { id: 'strip' }, h('h2', {}, 'What it knows when'),
    h('p', { class: 'quiet' }, 'An image forms from noise, timestep 999, to timestep 0. Each column takes the concept from one part of that; the last is the concept as it is.'),
    h('div', { class: 'fields' }, h('label', {}, h('span', {}, 'What the images show, with {} for the concept'), prompt),
      h('label', {}, h('span', {}, 'The concept'), view), h('label', {}, h('span', {}, 'Parts'), count), h('label', {}, h('span', {}, 'Seed'), seed)), h('p', {}),
    h('button', { type: 'button', onclick: () => start(`${c.id} strip`, 'decompositions', {
      concept: c.id, prompt: prompt.value, view: view.value, count: Number(count.value), seed: Number(seed.value),
    }) }, 'Make the strip'), table.place)
  return { section, update: table.update }
}

/** Where the look takes over, from the most mixed to none. */
const starts = [999, 900, 800, 700, 600, 400, 200, -1]

/** The mixture of the paper's section 4.3, with its start as a slider. */
function mixture(c) {
  const other = h('select', { id: 'other' })
  const prompt = h('input', { value: 'a photo of a {}', maxLength: 2000 })
  const layers = h('select', {}, ['coarse', 'fine', 'down', 'middle', 'up', 'all', 'none'].map((name) => h('option', {}, name)))
  const seed = h('input', { type: 'number', min: 0, value: 0 })
  const alone = h('p', { class: 'quiet' }, 'Learn a second concept to mix them.')
  const mix = h('button', { type: 'button', onclick: () => start(`${c.id} mix`, 'mixtures', {
    geometry: c.id, appearance: other.value, prompt: prompt.value, starts, layers: layers.value, seed: Number(seed.value),
  }) }, 'Mix them')
  const fields = h('div', { class: 'stack' }, h('div', { class: 'fields' },
    h('label', {}, h('span', {}, 'With the look of'), other), h('label', {}, h('span', {}, 'What the images show, with {} for the mixture'), prompt),
    h('label', {}, h('span', {}, 'Layers that keep the shape'), layers), h('label', {}, h('span', {}, 'Seed'), seed)), mix)
  const table = result(`${c.id} mix`, (s) => s.geometry === `<${c.name}>` && s['mixed from'], startSlider)
  const section = h('section', { id: 'mix' }, h('h2', {}, 'Mixed with another'),
    h('p', { class: 'quiet' }, `The shape of ${c.title}, the look of another. The slider says how early the look takes over.`), alone, fields, table.place)
  return {
    section,
    update: () => {
      const others = usable().filter((one) => one.id !== c.id)
      alone.hidden = others.length > 0
      fields.hidden = !others.length
      list(other, others, (one) => one.id, (one) => h('option', { value: one.id }), (option, one) => setText(option, one.title))
      table.update()
    },
  }
}

/** One image at a time of a mixture; a slider chooses its start. */
function startSlider(sheet) {
  const image = h('img', { class: 'single', alt: '' })
  const slider = h('input', { type: 'range', min: 0, step: 1, value: 0, 'aria-label': 'Where the look takes over' })
  const text = h('p', { class: 'quiet' })
  function update() {
    const images = cells(sheet)
    if (!images.length) return
    slider.max = images.length - 1
    const shown = images[Math.min(Number(slider.value), images.length - 1)]
    const from = shown.settings['mixed from']
    const what = from === 'never' ? 'never: the first concept alone' : `from timestep ${from} on`
    setSource(image, `/api/images/${shown.id}`)
    image.alt = `The mixture, the look taking over ${what}`
    setText(text, `The look takes over ${what}.`)
    slider.setAttribute('aria-valuetext', what)
  }
  slider.addEventListener('input', update)
  return { element: h('div', { class: 'stack mixture' }, image, slider, text), update }
}
