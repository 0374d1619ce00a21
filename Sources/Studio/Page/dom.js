// Building the page: elements, lists that keep their elements, and short messages.

/** An element. Properties that begin with `on` are listeners; `class` and attributes with hyphens are attributes. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (name in element && !name.includes('-')) element[name] = value
    else element.setAttribute(name === 'className' ? 'class' : name, value)
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined))
  return element
}

/** Shows `items` in `container`; an item of the same key keeps its element, and what is typed in it. */
export function list(container, items, key, make, update = () => {}) {
  const old = new Map([...container.children].map((child) => [child.dataset.key, child]))
  const wanted = items.map((item) => {
    const name = String(key(item))
    let element = old.get(name)
    if (!element) {
      element = make(item)
      element.dataset.key = name
    }
    update(element, item)
    return element
  })
  const kept = new Set(wanted)
  for (const child of [...container.children]) if (!kept.has(child)) child.remove()
  wanted.forEach((element, i) => {
    if (container.children[i] !== element) container.insertBefore(element, container.children[i] ?? null)
  })
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text
}

export function setSource(image, source) {
  if (image.getAttribute('src') !== source) image.setAttribute('src', source)
}

let toastTimer
/** A short message, perhaps with something that can be done about it. */
export function toast(text, action, run) {
  const box = document.getElementById('toast')
  clearTimeout(toastTimer)
  const close = () => box.replaceChildren()
  box.replaceChildren(h('div', {}, h('span', {}, text),
    action ? h('button', { class: 'small', onclick: () => { close(); run() } }, action) : null))
  toastTimer = setTimeout(close, action ? 12000 : 6000)
}

/** Does something that may fail; why it failed is shown. */
export async function attempt(work) {
  try { return await work() } catch (error) { toast(error.message) }
}

/** A place to drop files on. */
export function acceptDrops(element, take) {
  const holdsFiles = (event) => [...event.dataTransfer.types].includes('Files')
  const over = (event) => {
    if (!holdsFiles(event)) return
    event.preventDefault()
    // What lies around it takes drops of its own.
    event.stopPropagation()
    element.classList.add('over')
  }
  element.addEventListener('dragenter', over)
  element.addEventListener('dragover', over)
  element.addEventListener('dragleave', () => element.classList.remove('over'))
  element.addEventListener('drop', (event) => {
    // Words that are dragged into a field are the browser's business.
    if (!holdsFiles(event)) return
    event.preventDefault()
    event.stopPropagation()
    element.classList.remove('over')
    take([...event.dataTransfer.files])
  })
}

/** 1610612736 → “1.5 GiB” */
export function size(bytes) {
  const units = ['bytes', 'KiB', 'MiB', 'GiB']
  let i = 0
  for (; bytes >= 1024 && i < units.length - 1; i++) bytes /= 1024
  return `${i ? bytes.toFixed(1) : bytes} ${units[i]}`
}

/** 340 → “6 minutes”: no estimate is better than that. */
export function duration(seconds) {
  const many = (number, name) => `${number} ${name}${number === 1 ? '' : 's'}`
  if (seconds < 90) return many(seconds < 10 ? Math.max(1, Math.round(seconds)) : 5 * Math.round(seconds / 5), 'second')
  if (seconds < 5400) return many(Math.round(seconds / 60), 'minute')
  if (seconds < 48 * 3600) return many(seconds < 36000 ? Math.round(seconds / 360) / 10 : Math.round(seconds / 3600), 'hour')
  return many(Math.round(seconds / 86400), 'day')
}

/** What the libraries say, for a page: settings stand in backticks there. */
export function sentence(text) {
  const line = text.trim().replace(/`([^`]*)`/g, '“$1”')
  return line && line.charAt(0).toUpperCase() + line.slice(1) + (/[.!?]$/.test(line) ? '' : '.')
}

/** Asks for a file and saves it under the name that comes with it; a refusal is thrown. */
export async function save(address) {
  let response
  try { response = await fetch(address) } catch { throw new Error('The studio does not answer.') }
  if (!response.ok) throw new Error(sentence(await response.text()))
  const name = /filename="([^"]+)"/.exec(response.headers.get('Content-Disposition'))?.[1] ?? ''
  const url = URL.createObjectURL(await response.blob())
  h('a', { href: url, download: name }).click()
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}
