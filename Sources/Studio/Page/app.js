// The parts of the page, one at a time, by what stands after # in its address.
import { listen, studio } from './studio.js'
import { attempt, h } from './dom.js'
import { learnView } from './learn.js'
import { generateView } from './generate.js'
import { conceptsView } from './concepts.js'

const views = { learn: learnView, generate: generateView, concepts: conceptsView }
let leave = () => {}

function show() {
  const [name, ...rest] = location.hash.slice(1).split('/')
  const view = views[name] ?? views.learn
  leave()
  const main = document.getElementById('view')
  main.replaceChildren()
  leave = view(main, rest.map(decodeURIComponent)) ?? (() => {})
  for (const link of document.querySelectorAll('nav a')) {
    if (link.hash === '#' + (views[name] ? name : 'learn')) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  main.focus({ preventScroll: true })
}

attempt(async () => {
  await listen()
  document.getElementById('model').append(
    h('span', {}, `Model: ${studio.about.model}, ${studio.about.side} × ${studio.about.side} pixels.`))
  addEventListener('hashchange', show)
  show()
})
