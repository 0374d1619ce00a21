// All concepts of the studio, and what can be done with each.
import { ask, face, studio, watch } from './studio.js'
import { attempt, h, list, setSource, setText, toast } from './dom.js'

const states = {
  pictures: 'pictures only', waiting: 'waits to be learned', learning: 'is being learned', stopped: 'not finished', learned: 'learned',
}

export function conceptsView(main) {
  const tiles = h('div', { class: 'tiles large' })
  const empty = h('p', { class: 'quiet' }, 'There is none yet. “Learn” makes the first.')
  main.append(h('section', {}, h('h2', {}, 'Concepts'),
    h('div', { class: 'row' }, h('button', { onclick: () => { location.hash = '#learn/new' } }, 'Learn a new one')), empty, tiles))
  return watch(() => {
    empty.hidden = studio.concepts.length > 0
    list(tiles, studio.concepts, (c) => c.id, card, update)
  })
}

function card({ id }) {
  const title = h('input', { 'aria-label': 'Name', maxLength: 60, onchange: () =>
    attempt(() => ask('PUT', `concepts/${id}/title`, { title: title.value })) })
  return h('div', { class: 'tile card' }, h('img', { alt: '' }), title, h('p', { class: 'quiet' }), h('div', { class: 'row' },
    h('a', { class: 'button small', href: '#learn/' + id }, 'Open'),
    h('a', { class: 'button small use', href: '#generate/' + id }, 'Generate'),
    h('a', { class: 'button small save', href: `/api/concepts/${id}/file`, download: '' }, 'Save the file'),
    h('button', { class: 'small', onclick: () => attempt(async () => {
      await ask('DELETE', 'concepts/' + id)
      toast('The concept was deleted.', 'Undo', () => attempt(() => ask('POST', `concepts/${id}/restore`)))
    }) }, 'Delete')))
}

function update(element, c) {
  const image = element.querySelector('img')
  image.hidden = !face(c)
  if (face(c)) setSource(image, face(c))
  const title = element.querySelector('input')
  if (document.activeElement !== title) title.value = c.title || 'No name yet'
  const isLearned = c.progress.state === 'learned'
  const what = [c.kind, states[c.progress.state], c.steps ? `${c.steps} steps` : null, c.name ? `{${c.name}} in prompts` : null]
  setText(element.querySelector('p'), what.filter(Boolean).join(', ') + (c.fits ? '' : '; for another model'))
  element.querySelector('.use').hidden = !isLearned || !c.fits
  element.querySelector('.save').hidden = !isLearned
}
