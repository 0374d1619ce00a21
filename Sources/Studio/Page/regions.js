// Where several concepts stand in one image: a strip with a box for each, whose borders move.
import { studio, usable } from './studio.js'
import { h } from './dom.js'

/** The concepts of a prompt, in its order. */
export const namesIn = (prompt) => [...prompt.matchAll(/\{([a-z0-9-]{1,60})\}/g)].map((m) => m[1])
  .filter((name, i, all) => all.indexOf(name) === i && usable().some((c) => c.name === name))

/** The narrowest part, of the mean. */
const least = 0.3

/** A field for a prompt; `kept` holds `regions`, `layout` and the prompt; `changed` is told of a new prompt. */
export function regionsField(kept, changed) {
  const strip = h('div', { class: 'regions', role: 'group', 'aria-label': 'Where each concept stands' })
  const layout = h('select', { onchange: () => { kept.layout = layout.value; update() } },
    h('option', { value: 'side-by-side' }, 'side by side, a prompt for each'),
    h('option', { value: 'free' }, 'free: the model decides'))
  const hint = h('p', { class: 'quiet' }, 'Drag a border, or move it with the arrow keys. What joins the concepts in the prompt is left out.')
  const element = h('div', { class: 'stack' }, h('label', {}, h('span', {}, 'Several concepts stand'), layout), strip, hint)
  let shown

  function parts(names) {
    const key = names.join(' ')
    if (kept.regions?.key !== key) kept.regions = { key, parts: names.map(() => 1), moved: false }
    return kept.regions
  }

  function move(i, share, names) {
    const own = parts(names)
    const pair = own.parts[i] + own.parts[i + 1]
    const bound = Math.min(least, pair / 2)
    own.parts[i] = Math.min(pair - bound, Math.max(bound, share))
    own.parts[i + 1] = pair - own.parts[i]
    own.moved = true
    place(names)
  }

  function place(names) {
    const own = parts(names)
    const total = own.parts.reduce((a, b) => a + b)
    own.parts.forEach((part, i) => strip.querySelectorAll('.region')[i].style.setProperty('flex-grow', String(part)))
    strip.querySelectorAll('.border').forEach((border, i) => {
      const left = own.parts.slice(0, i + 1).reduce((a, b) => a + b)
      border.setAttribute('aria-valuenow', String(Math.round(100 * left / total)))
    })
  }

  function border(i, names) {
    const handle = h('div', {
      class: 'border', role: 'separator', tabIndex: 0, 'aria-orientation': 'vertical', 'aria-valuemin': 0, 'aria-valuemax': 100,
      'aria-label': `Border between ${names[i]} and ${names[i + 1]}`,
    })
    handle.addEventListener('keydown', (event) => {
      const step = { ArrowLeft: -0.1, ArrowRight: 0.1 }[event.key]
      if (!step) return
      event.preventDefault()
      move(i, parts(names).parts[i] + step, names)
    })
    handle.addEventListener('pointerdown', (event) => {
      event.preventDefault()
      handle.setPointerCapture(event.pointerId)
      handle.focus()
      const boxes = strip.querySelectorAll('.region')
      const [left, right] = [boxes[i].getBoundingClientRect().left, boxes[i + 1].getBoundingClientRect().right]
      const own = parts(names)
      const pair = own.parts[i] + own.parts[i + 1]
      const follow = (e) => move(i, pair * (e.clientX - left) / (right - left), names)
      handle.addEventListener('pointermove', follow)
      const end = () => handle.removeEventListener('pointermove', follow)
      handle.addEventListener('pointerup', end, { once: true })
      handle.addEventListener('pointercancel', end, { once: true })
    })
    return handle
  }

  /** Exchanges two neighbours in the prompt. */
  function swap(a, b) {
    kept.prompt = kept.prompt.replaceAll(`{${a}}`, '\u0000').replaceAll(`{${b}}`, `{${a}}`).replaceAll('\u0000', `{${b}}`)
    changed()
  }

  function update() {
    const names = namesIn(kept.prompt)
    element.hidden = names.length < 2
    layout.value = kept.layout
    strip.hidden = hint.hidden = kept.layout !== 'side-by-side'
    const key = names.join(' ')
    if (element.hidden || key === shown) return
    shown = key
    strip.replaceChildren(...names.flatMap((name, i) => [
      ...(i ? [border(i - 1, names)] : []),
      h('div', { class: 'region' }, h('span', {}, title(name)), i ? h('button', {
        type: 'button', class: 'small', 'aria-label': `Move ${name} to the left`, onclick: () => swap(names[i - 1], name),
      }, '← left') : null),
    ]))
    place(names)
  }

  return {
    element, update,
    /** What a request says of it. */
    request: () => {
      const names = namesIn(kept.prompt)
      if (names.length < 2) return {}
      const own = parts(names)
      return {
        layout: kept.layout,
        regions: kept.layout === 'side-by-side' && own.moved ? own.parts.map((p) => Number(p.toFixed(3))) : null,
      }
    },
  }
}

const title = (name) => studio.concepts.find((c) => c.name === name)?.title ?? name
