// Tables of images with labels, and the gallery of all.
import { ask, studio } from './studio.js'
import { attempt, h, list, sentence, setText } from './dom.js'

/** The images that belong to a table, in the order in which they were made. */
export const cells = (sheet) => studio.images.filter((image) => image.settings.sheet === sheet).reverse()

const unique = (texts) => [...new Set(texts)]

/** What says which row or column an image is in. */
const label = (image, which) => image.settings[which] ?? ''

/** A table of images; `update` shows those that came. */
export function sheetTable(sheet) {
  const table = h('table', {})
  const element = h('div', { class: 'sheet', tabIndex: 0, role: 'region', 'aria-label': 'A table of images' }, table)
  let shown
  function update() {
    const images = cells(sheet)
    const name = images.map((image) => image.id).join()
    if (name === shown) return images.length
    shown = name
    const [rows, columns] = ['row', 'column'].map((which) => unique(images.map((image) => label(image, which))))
    const at = (row, column) => images.find((image) => label(image, 'row') === row && label(image, 'column') === column)
    table.replaceChildren(
      h('thead', {}, h('tr', {}, rows.some(Boolean) ? h('td', {}) : null, columns.map((text) => h('th', { scope: 'col' }, text)))),
      h('tbody', {}, rows.map((row) => h('tr', {}, rows.some(Boolean) ? h('th', { scope: 'row' }, row) : null,
        columns.map((column) => h('td', {}, picture(at(row, column), [row, column].filter(Boolean).join(', '))))))))
    return images.length
  }
  update()
  return { element, update }
}

function picture(image, text) {
  if (!image) return ''
  return h('a', { href: `/api/images/${image.id}`, target: '_blank', rel: 'noopener' },
    h('img', { src: `/api/images/${image.id}`, alt: `${text}: ${typed(image.settings)}`, loading: 'lazy' }))
}

/** All images so far, the newest first; those of one table together. */
export function gallerySection(restore) {
  const tiles = h('div', { class: 'tiles large' })
  const empty = h('p', { class: 'quiet' }, 'Images appear here. Drop one on this page to get its settings back.')
  const section = h('section', { id: 'gallery' }, h('h2', {}, 'Images'), empty, tiles)
  const tables = new Map()
  return {
    section,
    update: () => {
      empty.hidden = studio.images.length > 0
      const groups = []
      for (const image of studio.images) {
        const sheet = image.settings.sheet
        if (!sheet || !groups.some((g) => g.sheet === sheet)) groups.push({ key: sheet ?? image.id, sheet, image })
      }
      list(tiles, groups, (g) => g.key, (g) => g.sheet ? tableTile(g, tables) : imageTile(g.image, restore),
        (_, g) => { if (g.sheet) tables.get(g.sheet)?.update() })
    },
  }
}

/** The prompt as it was typed: with the name of its only concept. */
const typed = (s) => s.names && !s.names.includes(' ') ? (s.prompt ?? '').replaceAll('{}', `{${s.names}}`) : s.prompt ?? 'An image'

const describe = (s) => [`seed ${s.seed}`, s.truncation ? `dial ${s.truncation}` : null].filter(Boolean).join(', ')

function imageTile({ id, settings }, restore) {
  const of = `the image “${typed(settings)}”, seed ${settings.seed}`
  return h('div', { class: 'tile' },
    h('a', { href: `/api/images/${id}`, target: '_blank', rel: 'noopener' },
      h('img', { src: `/api/images/${id}`, alt: typed(settings), loading: 'lazy' })),
    h('p', { class: 'quiet' }, `${typed(settings)} (${describe(settings)})`),
    h('div', { class: 'row' },
      h('button', { class: 'small', 'aria-label': `Settings of ${of}`, onclick: () => restore(settings) }, 'Settings'),
      h('a', { class: 'button small', 'aria-label': `Save ${of}`, href: `/api/images/${id}`, download: `${id}.png` }, 'Save'),
      h('button', { class: 'small', 'aria-label': `Delete ${of}`, onclick: () => attempt(() => ask('DELETE', `images/${id}`)) }, 'Delete')))
}

function tableTile({ sheet, image }, tables) {
  const table = sheetTable(sheet)
  tables.set(sheet, table)
  return h('div', { class: 'tile wide' }, h('p', { class: 'quiet' }, `A table: “${typed(image.settings)}”`), table.element,
    h('div', { class: 'row' },
      h('a', { class: 'button small', href: `/api/sheets/${sheet}`, download: '' }, 'Save as one picture'),
      h('button', { class: 'small', onclick: () => attempt(async () => {
        for (const { id } of cells(sheet)) await ask('DELETE', `images/${id}`)
      }) }, 'Delete the table')))
}

/** What is forming, and what waits. */
export function formingSection() {
  const line = h('p', { role: 'status' })
  const bar = h('progress', { max: 1, value: 0, 'aria-label': 'Denoising steps that are done' })
  const stop = h('button', { type: 'button', class: 'small', onclick: () => attempt(() => ask('POST', 'generations/stop')) }, 'Stop')
  const tiles = h('div', { class: 'tiles' })
  const problem = h('p', { class: 'warn', role: 'status' })
  const section = h('section', { id: 'forming' }, line, bar, tiles, h('p', {}), stop, problem)
  return {
    section,
    update: () => {
      const { generateJob: job, prompt, toGenerate, learning, problem: why, warnings } = studio.work
      const told = [why, ...warnings].filter(Boolean).map(sentence).join(' ')
      section.hidden = !job && !toGenerate && !told
      line.hidden = stop.hidden = !job && !toGenerate
      bar.hidden = !job
      setText(problem, told)
      setText(line, job ? `“${prompt}”` + (toGenerate ? `, and ${toGenerate} more after it` : '')
        : learning ? `${toGenerate} waiting for the training step at hand to end.` : `${toGenerate} waiting.`)
      bar.value = job?.total ? job.step / job.total : 0
      list(tiles, (job?.previews ?? []).map((source, i) => ({ source, i })), (p) => p.i, () => h('div', { class: 'tile' },
        h('img', { class: 'forming', alt: '' })), (tile, p) => {
        const image = tile.querySelector('img')
        if (image.getAttribute('src') !== p.source) image.setAttribute('src', p.source)
        image.alt = `Image ${p.i + 1}, still forming`
      })
    },
  }
}
