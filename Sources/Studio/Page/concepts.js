// All concepts of the studio, what can be done with each, and the models that they are for.
import { ask, face, studio, watch } from './studio.js'
import { restoreFile } from './generate.js'
import { attempt, h, list, save, sentence, setSource, setText, size, toast } from './dom.js'

const states = {
  pictures: 'pictures only', waiting: 'waits to be learned', learning: 'is being learned', stopped: 'not finished', learned: 'learned',
}

export function conceptsView(main) {
  const tiles = h('div', { class: 'tiles large' })
  const empty = h('p', { class: 'quiet' }, 'There is none yet. “Learn” makes the first.')
  const deleted = h('ul', { class: 'plain', 'aria-label': 'Deleted' })
  const input = h('input', { type: 'file', accept: '.safetensors,.pt,.bin', hidden: true, onchange: () => {
    const [file] = input.files
    input.value = ''
    if (file) attempt(() => importFile(file))
  } })
  main.append(h('section', {}, h('h2', {}, 'Concepts'), h('div', { class: 'row' },
    h('button', { onclick: () => { location.hash = '#learn/new' } }, 'Learn a new one'),
    h('button', { onclick: () => input.click() }, 'Take one from a file…'), input), empty, tiles, deleted), modelsSection())
  main.addEventListener('files', (event) => attempt(() => takeFiles(event.detail)))
  return watch(() => {
    empty.hidden = studio.concepts.length > 0
    list(tiles, studio.concepts, (c) => c.id, card, update)
    deleted.hidden = !studio.work.deleted.length
    list(deleted, studio.work.deleted, (d) => d.id, (d) => h('li', {}, `“${d.title || 'No name yet'}” was deleted. `,
      h('button', { class: 'small', 'aria-label': `Bring ${d.title} back`, onclick: () => attempt(() => ask('POST', `concepts/${d.id}/restore`)) }, 'Bring it back')))
  })
}

/** Files that were dropped: concepts are taken, an image gives its settings back. */
async function takeFiles(files) {
  const concepts = files.filter((file) => /\.(safetensors|pt|bin)$/i.test(file.name))
  if (!concepts.length) return restoreFile(files)
  for (const file of concepts) await importFile(file)
  if (concepts.length < files.length) toast('The concepts are here; the other files were left alone.')
}

async function importFile(file) {
  if (file.size > studio.about.mostImportBytes) throw new Error(`${file.name} is too large for a concept.`)
  await ask('POST', `imports?name=${encodeURIComponent(file.name)}`, file)
  toast('The concept is here.')
}

/** Programs that concepts are written for as plain vectors, and those that draw all of a concept. */
const formats = { diffusers: 'diffusers', a1111: 'A1111 and ComfyUI', kohya: 'kohya, a vector for each layer' }
const programs = { diffusers: 'diffusers, all of it', comfyui: 'ComfyUI, all of it' }

function card({ id }) {
  const title = h('input', { 'aria-label': 'Name', maxLength: 60, placeholder: 'No name yet', onchange: () =>
    attempt(() => ask('PUT', `concepts/${id}/title`, { title: title.value })) })
  const moment = h('input', { type: 'number', min: 0, max: 999, value: 500 })
  const button = (text, address) => h('button', { class: 'small', onclick: () => attempt(() => save(`/api/concepts/${id}/${address()}`)) }, text)
  return h('div', { class: 'tile card' }, h('img', { alt: '' }), title, h('p', { class: 'quiet what' }), h('p', { class: 'quiet from' }), h('p', { class: 'warn' }),
    h('div', { class: 'row' },
      h('a', { class: 'button small open', href: '#learn/' + id }, 'Open'),
      h('a', { class: 'button small use', href: '#generate/' + id }, 'Generate'),
      h('a', { class: 'button small look', href: '#look/' + id }, 'Look inside'),
      h('a', { class: 'button small save', href: `/api/concepts/${id}/file`, download: '' }, 'Save the file'),
      h('button', { class: 'small', onclick: () => attempt(async () => {
        await ask('DELETE', 'concepts/' + id)
        toast('The concept was deleted.', 'Undo', () => attempt(() => ask('POST', `concepts/${id}/restore`)))
      }) }, 'Delete')),
    h('details', { class: 'export' }, h('summary', {}, 'For other programs'),
      h('p', { class: 'quiet' }, 'A folder with the concept and what draws it there; its README.md says how.'),
      h('div', { class: 'row' }, Object.entries(programs).map(([program, text]) => button(text, () => `folder?for=${program}`))),
      h('p', { class: 'quiet' }, 'Or plain vectors: of a concept that changes with time they keep one moment.'),
      h('label', {}, h('span', {}, 'The moment, from 999 (noise) to 0'), moment), h('p', {}),
      h('div', { class: 'row' }, Object.entries(formats).map(([format, text]) => button(text, () => `file?format=${format}&timestep=${Number(moment.value) || 0}`)))))
}

function update(element, c) {
  const image = element.querySelector('img')
  image.hidden = !face(c)
  if (face(c)) setSource(image, face(c))
  const title = element.querySelector('input')
  if (document.activeElement !== title) title.value = c.title
  title.setAttribute('aria-label', 'Name')
  for (const [name, text] of [['.open', 'Open'], ['.use', 'Generate'], ['.look', 'Look inside'], ['.save', 'Save the file']]) {
    element.querySelector(name).setAttribute('aria-label', `${text}: ${c.title}`)
  }
  const isLearned = c.progress.state === 'learned'
  const what = [c.kind, states[c.progress.state], c.steps ? `${c.steps} steps` : null, c.name ? `{${c.name}} in prompts` : null]
  setText(element.querySelector('.what'), what.filter(Boolean).join(', ') + (c.fits ? '' : '; for another model'))
  const from = [c.isImported ? 'from a file' : c.pictures.length ? `from ${c.pictures.length} pictures` : null,
    c.base ? `for ${c.base}` : null, c.progress.bytes ? size(c.progress.bytes) : null]
  setText(element.querySelector('.from'), from.filter(Boolean).join(', '))
  setText(element.querySelector('.warn'), sentence(c.progress.problem ?? ''))
  element.querySelector('.use').hidden = element.querySelector('.look').hidden = !isLearned || !c.fits
  element.querySelector('.save').hidden = element.querySelector('.export').hidden = !isLearned
}

/** The models on this machine, and what each takes of its memory. */
function modelsSection() {
  const rows = h('tbody', {})
  const problem = h('p', { class: 'warn' })
  attempt(async () => {
    for (const model of await ask('GET', 'models')) {
      rows.append(h('tr', {}, h('th', { scope: 'row' }, model.name),
        h('td', {}, model.parts.map((p) => `${p.name} ${size(p.bytes)}`).join(', ')),
        h('td', {}, size(model.parts.reduce((sum, p) => sum + p.bytes, 0))),
        h('td', {}, model.isOpen ? 'open' : h('code', {}, model.commandLine))))
    }
  })
  return h('section', { id: 'models' }, h('h2', {}, 'Models on this machine'),
    h('p', { class: 'quiet' }, 'One is open at a time. To take another, close the studio and start it with the line beside it.'),
    h('div', { class: 'sheet', tabIndex: 0, role: 'region', 'aria-label': 'Models' }, h('table', { class: 'models' }, h('thead', {}, h('tr', {},
      ['Model', 'Its parts in memory', 'Together'].map((text) => h('th', { scope: 'col' }, text)), h('td'))), rows)), problem)
}
