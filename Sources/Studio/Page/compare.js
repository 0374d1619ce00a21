// A table of images over one or two things that change.
import { ask, studio, usable } from './studio.js'
import { attempt, h } from './dom.js'
import { namesIn } from './regions.js'

const kinds = { dial: 'the dial', seed: 'the seed', guidance: 'guidance', checkpoint: 'the checkpoint', prompt: 'the prompt' }

/** What a person who has not typed anything would compare. */
function usual(kind, prompt) {
  if (kind === 'dial') return '4, 16, 64, all'
  if (kind === 'seed') return '0, 1, 2, 3'
  if (kind === 'guidance') return [0.5, 1, 1.5].map((f) => f * studio.about.guidance).join(', ')
  if (kind === 'prompt') return `${prompt}\n${prompt}, in the snow`
  const name = namesIn(prompt)[0]
  const one = usable().find((c) => c.name === name)
  // The last is the concept as it is.
  const steps = (one?.progress.checkpoints ?? []).filter((step) => step < one.steps)
  // At most four of them, evenly, and the concept as it is.
  const some = steps.filter((_, i) => i % Math.ceil(steps.length / 4 || 1) === 0)
  return [...some, 'all'].join(', ')
}

/** `request` gives what stays the same. */
export function compareSection(request) {
  const axis = (name, kind, none) => {
    const values = h('textarea', { rows: 2, maxLength: 4000 })
    const select = h('select', { onchange: () => { fill() } }, none ? h('option', { value: '' }, 'nothing') : null,
      Object.entries(kinds).map(([value, text]) => h('option', { value, selected: value === kind }, text)))
    const fill = () => {
      values.value = select.value ? usual(select.value, request().prompt) : ''
      field.hidden = !select.value
    }
    const field = h('label', {}, h('span', {}, 'Its values, with commas between; prompts stand in lines of their own'), values)
    return {
      fill: () => { if (!values.value) fill() }, element: h('div', { class: 'stack' }, h('label', {}, h('span', {}, name), select), field),
      value: () => !select.value ? null : {
        kind: select.value,
        values: values.value.split(select.value === 'prompt' ? '\n' : /[,\n]/).map((v) => v.trim()).filter(Boolean),
      },
    }
  }
  const columns = axis('Columns change', 'dial', false)
  const rows = axis('Rows change', '', true)
  const make = h('button', { type: 'button', onclick: () => attempt(() => ask('POST', 'grids', {
    base: request(), columns: columns.value(), rows: rows.value(),
  })) }, 'Make the table')
  const element = h('details', { ontoggle: () => { if (element.open) for (const a of [columns, rows]) a.fill() } },
    h('summary', {}, 'Compare in a table'), h('div', { class: 'fields' }, columns.element, rows.element), make)
  return element
}
