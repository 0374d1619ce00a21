// The parts of the page, one at a time, by what stands after # in its address.
import { listen, studio } from './studio.js'
import { acceptDrops, h } from './dom.js'
import { learnView } from './learn.js'
import { generateView } from './generate.js'
import { lookView } from './look.js'
import { conceptsView } from './concepts.js'
import { queueSection } from './queue.js'

const views = { learn: learnView, generate: generateView, look: lookView, concepts: conceptsView }
const titles = { learn: 'Learn', generate: 'Generate', look: 'Look inside', concepts: 'Concepts' }
let leave = () => {}

function show() {
  const [name, ...rest] = location.hash.slice(1).split('/')
  const part = views[name] ? name : 'learn'
  leave()
  const main = document.getElementById('view')
  // An element of its own, so that what listens to it goes with it.
  const place = h('div', { class: 'view' })
  main.replaceChildren(place)
  // Ids are letters and digits; nothing else becomes a part of an address.
  leave = views[part](place, rest.filter((id) => /^[a-z0-9]{1,16}$/.test(id))) ?? (() => {})
  document.title = `${titles[part]} – neti studio`
  for (const link of document.querySelectorAll('nav a')) {
    if (link.hash === '#' + part) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  main.focus({ preventScroll: true })
}

// What is dropped beside its place is the business of the part of the page that is shown.
acceptDrops(document.documentElement, (files) => {
  document.querySelector('.view')?.dispatchEvent(new CustomEvent('files', { detail: files }))
})

async function start() {
  try { await listen() } catch (error) {
    document.getElementById('view').replaceChildren(h('section', {}, h('p', { class: 'warn' }, error.message),
      h('button', { onclick: () => location.reload() }, 'Try again')))
    return
  }
  document.getElementById('model').append(
    h('span', {}, `Model: ${studio.about.model}, ${studio.about.side} × ${studio.about.side} pixels.`))
  queueSection(document.getElementById('queue'))
  addEventListener('hashchange', show)
  show()
}
start()
