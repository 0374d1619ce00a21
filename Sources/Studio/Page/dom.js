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
    element.classList.add('over')
  }
  element.addEventListener('dragenter', over)
  element.addEventListener('dragover', over)
  element.addEventListener('dragleave', () => element.classList.remove('over'))
  element.addEventListener('drop', (event) => {
    // Words that are dragged into a field are the browser's business.
    if (!holdsFiles(event)) return
    event.preventDefault()
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

/** 65 → “1:05 minutes” */
export function clock(seconds) {
  const s = Math.max(0, Math.round(seconds))
  if (s < 60) return `${s} seconds`
  const two = (n) => String(n).padStart(2, '0')
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)} minutes` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)} hours`
}
