// What the studio knows, as it tells it, and how it is asked.
import { sentence } from './dom.js'

/** `about` stays; the others change with the studio's events. */
export const studio = { about: null, concepts: [], images: [], work: { toLearn: [], queue: [], warnings: [], deleted: [] } }

const listeners = new Set()
/** Calls `listener` now and after every change, until the function that comes back is called. */
export function watch(listener) {
  listeners.add(listener)
  listener()
  return () => listeners.delete(listener)
}

/** Asks the studio; an answer that is a refusal becomes an error with its line. */
export async function ask(method, path, body) {
  const options = { method }
  if (body instanceof Blob) {
    // A folder, for example: the browser would say nothing of it.
    try { await body.slice(0, 1).arrayBuffer() } catch {
      throw new Error(`${body.name ?? 'It'} cannot be read. Is it a folder? Then open it, and take what is in it.`)
    }
    options.body = body
    options.headers = { 'Content-Type': 'application/octet-stream' }
  } else if (method !== 'GET') {
    options.body = JSON.stringify(body ?? {})
    options.headers = { 'Content-Type': 'application/json' }
  }
  let response
  try { response = await fetch('/api/' + path, options) } catch { throw new Error('The studio does not answer.') }
  if (!response.ok) throw new Error(sentence(await response.text()))
  return response.json()
}

/** Waits for the first news of all parts; the others follow by themselves. */
export async function listen() {
  studio.about = await ask('GET', 'studio')
  const lost = document.getElementById('connection')
  const told = {}
  const first = ['concepts', 'images', 'work'].map((part) => new Promise((resolve) => { told[part] = resolve }))
  let source
  const connect = () => {
    source = new EventSource('/api/events')
    for (const part of Object.keys(told)) {
      source.addEventListener(part, (event) => {
        studio[part] = JSON.parse(event.data)
        for (const listener of listeners) {
          // What fails in one place keeps the others from nothing.
          try { listener() } catch (error) { console.error(error) }
        }
        told[part]()
        if (studio.work.closing) close(studio.work.closing)
      })
    }
    source.onopen = () => { lost.hidden = true }
    source.onerror = () => {
      // After a new start of the studio this page's cookie is of no use.
      lost.textContent = source.readyState === EventSource.CLOSED
        ? 'The studio was started anew: open the address that it printed.' : 'The studio does not answer. Is it still running?'
      lost.hidden = false
    }
  }
  // It said why it ends; a new one has another address.
  const close = (why) => {
    source.close()
    lost.textContent = sentence(why)
    lost.hidden = false
  }
  connect()
  // Browsers allow six connections for all pages together: a page that nobody sees needs none.
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) source.close()
    else if (source.readyState === EventSource.CLOSED && !studio.work.closing) connect()
  })
  await Promise.all(first)
}

export const concept = (id) => studio.concepts.find((c) => c.id === id)
/** Waits until the studio has told of a concept: its answer can be here before that. */
export const arrival = (id) => new Promise((resolve) => {
  const stop = watch(() => {
    if (concept(id)) queueMicrotask(() => { stop(); resolve() })
  })
})
/** Concepts that can be generated with the studio's model. */
export const usable = () => studio.concepts.filter((c) => c.progress.state === 'learned' && c.fits)

/** A picture that stands for a concept: how it looked last, or its first picture. */
export function face(c) {
  const step = c.progress.previews.at(-1)
  if (step !== undefined) return `/api/concepts/${c.id}/previews/${step}/0`
  return c.pictures.length ? square(c, c.pictures[0]) : null
}

/** What the trainer sees of a picture. */
export const square = (c, picture) => `/api/concepts/${c.id}/pictures/${picture.number}?v=${picture.version}`
