// What is being done and what waits: one list, on every part of the page.
import { ask, concept, studio, watch } from './studio.js'
import { attempt, duration, h, list, setText, toast } from './dom.js'

/** What a line of the list is called. */
function name({ kind, id, isRunning, isBrokenOff, prompt }) {
  if (kind === 'generate') {
    const short = prompt.length > 80 ? prompt.slice(0, 79) + '…' : prompt
    if (isBrokenOff) return `“${short}” was broken off`
    return `${isRunning ? 'Generating' : 'Generate'} “${short}”`
  }
  return `${isRunning ? 'Learning' : 'Learn'} ${concept(id)?.title ?? 'a concept'}`
}

/** How far it is, and in words; the share is nil where nothing is known. */
function progress(item) {
  const job = item.kind === 'learn' ? studio.work.learnJob : studio.work.generateJob
  if (item.isBrokenOff) return { share: null, text: 'the studio ended; what was done is kept' }
  if (!item.isRunning) return { share: null, text: 'waits' }
  if (!job?.total) return { share: null, text: 'begins' }
  if (job.isStopping) return { share: job.step / job.total, text: 'stops after this step' }
  const left = item.kind === 'learn' && job.secondsLeft !== undefined ? `, about ${duration(job.secondsLeft)} left` : ''
  return { share: job.step / job.total, text: `step ${job.step} of ${job.total}${left}` }
}

async function take(item) {
  await (item.kind === 'learn' ? ask('POST', `concepts/${item.id}/stop`) : ask('DELETE', `generations/${item.id}`))
  if (!item.isBrokenOff) toast(item.isRunning ? `It stops: ${name(item)}.` : `Taken out: ${name(item)}.`)
}

/** Fills its place on the page, which is empty while nothing is being done. */
export function queueSection(place) {
  const summary = h('summary', {})
  const lines = h('ol', { class: 'plain' })
  // What asks for a decision is not folded away.
  place.append(h('details', { open: studio.work.queue.some((item) => item.isBrokenOff) }, summary, lines))
  watch(() => {
    const { queue } = studio.work
    // Whoever takes a line out by keyboard goes on at the next.
    const at = [...lines.children].findIndex((line) => line.contains(document.activeElement))
    const isGone = at >= 0 && !queue.some((item) => item.id === lines.children[at].dataset.key)
    const running = queue.filter((item) => item.isRunning)
    const broken = queue.filter((item) => item.isBrokenOff).length
    const more = queue.length - running.length - broken
    setText(summary, [running.map(name).join('; ') || null, more ? `${more} ${running.length ? 'more ' : ''}${more > 1 ? 'wait' : 'waits'}` : null,
      broken ? `${broken} ${broken > 1 ? 'were' : 'was'} broken off` : null].filter(Boolean).join('; '))
    list(lines, queue, (item) => item.id, line, update)
    if (isGone) (lines.children[Math.min(at, queue.length - 1)]?.querySelector('[name=take]') ?? document.getElementById('view')).focus()
    place.hidden = !queue.length
  })
}

function line(item) {
  const button = h('button', { class: 'small', name: 'take', onclick: () => attempt(() => take(studio.work.queue.find(({ id }) => id === item.id) ?? item)) })
  const goOn = h('button', { class: 'small', name: 'goOn', onclick: () => attempt(async () => {
    await ask('POST', `generations/${item.id}/resume`)
    // This button goes.
    button.focus()
  }) }, 'Make the missing images')
  return h('li', {}, h('a', { href: item.kind === 'learn' ? '#learn/' + item.id : '#generate' }), h('span', { class: 'quiet' }), goOn, button,
    h('progress', { max: 1, value: 0 }))
}

function update(element, item) {
  const { share, text } = progress(item)
  const [link, words, goOn, button, bar] = ['a', 'span', '[name=goOn]', '[name=take]', 'progress'].map((tag) => element.querySelector(tag))
  setText(link, name(item))
  setText(words, text)
  const what = item.isRunning ? 'Stop' : item.isBrokenOff ? 'Dismiss' : 'Take out'
  setText(button, what)
  button.setAttribute('aria-label', `${what}: ${name(item)}`)
  goOn.hidden = !item.isBrokenOff
  goOn.setAttribute('aria-label', `Make the missing images: ${name(item)}`)
  bar.hidden = share === null
  bar.value = share ?? 0
  bar.setAttribute('aria-label', `How far it is: ${name(item)}`)
}
