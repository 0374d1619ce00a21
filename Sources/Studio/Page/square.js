// Which square of a picture is learned: moved and sized, the picture turned, parts painted out.
import { ask } from './studio.js'
import { h, setText } from './dom.js'

/** Sides of the mask that is painted, in pixels. */
const maskSide = 256

/** Opens the dialog for a picture of a concept. */
export function editSquare(id, picture) {
  const part = picture.part ?? { x: null, y: null, side: 1, quarters: 0, mask: null }
  let { quarters, side } = part
  let x = part.x, y = part.y
  const image = h('img', { alt: `Picture ${picture.number}: ${picture.name}`, draggable: false })
  const canvas = h('canvas', { width: maskSide, height: maskSide })
  const frame = h('div', { class: 'frame', tabIndex: 0, role: 'group', 'aria-label': 'The square that is learned. Arrow keys move it, plus and minus size it.' }, canvas)
  const stage = h('div', { class: 'stage' }, image, frame)
  const zoom = h('input', { type: 'range', min: 0.1, max: 1, step: 0.01 })
  const brush = h('input', { type: 'range', min: 0.03, max: 0.3, step: 0.01, value: 0.1 })
  const tools = ['Move the square', 'Brush: leave out', 'Brush: take back'].map((text, i) => h('label', { class: 'choice' },
    h('input', { type: 'radio', name: 'tool', value: i, checked: i === 0 }), ` ${text}`))
  const form = h('form', { method: 'dialog' },
    h('fieldset', { class: 'choices' }, h('legend', {}, 'What the pointer does'), tools),
    h('div', { class: 'fields' }, h('label', {}, h('span', {}, 'Size of the square'), zoom), h('label', {}, h('span', {}, 'Size of the brush'), brush)),
    h('div', { class: 'row' },
      h('button', { type: 'button', class: 'small', onclick: turn }, 'Turn'),
      h('button', { type: 'button', class: 'small', onclick: () => { clear(); hint() } }, 'Forget the brush'),
      h('button', { type: 'button', class: 'small', onclick: () => save(null) }, 'All as it was')))
  const text = h('p', { class: 'quiet', role: 'status' })
  const keep = h('button', { type: 'button', class: 'main', onclick: () => save(chosen()) }, 'Keep')
  const dialog = h('dialog', { 'aria-label': `The square of picture ${picture.number}`, onclose: () => dialog.remove() },
    stage, form, text, h('div', { class: 'row' }, keep, h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel')))
  const pen = canvas.getContext('2d')
  const tool = () => Number(form.elements.tool.value)
  let painted = false
  // Of the turned picture, in units of its shorter side.
  const size = () => {
    const [w, h_] = quarters % 2 ? [picture.height, picture.width] : [picture.width, picture.height]
    const short = Math.min(w, h_)
    return { width: w / short, height: h_ / short }
  }

  function place() {
    const { width, height } = size()
    side = Math.min(1, Math.max(0.1, side))
    x = Math.min(width - side, Math.max(0, x ?? (width - side) / 2))
    y = Math.min(height - side, Math.max(0, y ?? (height - side) / 2))
    zoom.value = side
    const style = frame.style
    style.setProperty('left', `${100 * x / width}%`)
    style.setProperty('top', `${100 * y / height}%`)
    style.setProperty('width', `${100 * side / width}%`)
    style.setProperty('height', `${100 * side / height}%`)
  }

  function hint() {
    const pixels = Math.round(side * Math.min(picture.width, picture.height))
    setText(text, `${pixels} × ${pixels} pixels of the picture${painted ? '; what is painted red is not learned' : ''}.`)
  }

  function resize(to) {
    const [cx, cy] = [x + side / 2, y + side / 2]
    side = Math.min(1, Math.max(0.1, to))
    ;[x, y] = [cx - side / 2, cy - side / 2]
    place()
    hint()
  }

  function load() { image.src = `/api/concepts/${id}/pictures/${picture.number}/original?quarters=${quarters}` }
  function clear() { pen.clearRect(0, 0, maskSide, maskSide); painted = false }

  function turn() {
    quarters = (quarters + 1) % 4
    ;[x, y] = [null, null]
    clear()
    load()
    place()
    hint()
  }

  function dab(px, py) {
    pen.globalCompositeOperation = tool() === 2 ? 'destination-out' : 'source-over'
    pen.fillStyle = 'rgb(200, 40, 40)'
    pen.beginPath()
    pen.arc(px * maskSide, py * maskSide, Number(brush.value) * maskSide / 2, 0, 2 * Math.PI)
    pen.fill()
    painted = true
  }

  frame.addEventListener('pointerdown', (event) => {
    event.preventDefault()
    frame.setPointerCapture(event.pointerId)
    frame.focus()
    const box = stage.getBoundingClientRect()
    const unit = size().width / box.width
    const from = { px: event.clientX, py: event.clientY, x, y }
    let last
    const follow = (e) => {
      if (tool() === 0) {
        x = from.x + (e.clientX - from.px) * unit
        y = from.y + (e.clientY - from.py) * unit
        place()
      } else {
        const own = frame.getBoundingClientRect()
        const now = { x: (e.clientX - own.left) / own.width, y: (e.clientY - own.top) / own.height }
        // What lies between two events of a quick hand is painted, too.
        const count = last ? Math.ceil(Math.hypot(now.x - last.x, now.y - last.y) / (Number(brush.value) / 4)) : 0
        for (let i = 1; i <= count; i++) dab(last.x + (now.x - last.x) * i / count, last.y + (now.y - last.y) * i / count)
        dab(now.x, now.y)
        last = now
      }
    }
    follow(event)
    frame.addEventListener('pointermove', follow)
    const end = () => { frame.removeEventListener('pointermove', follow); hint() }
    frame.addEventListener('pointerup', end, { once: true })
    frame.addEventListener('pointercancel', end, { once: true })
  })
  // By keyboard the arrows move the square; with a brush, they move where it paints, and the space bar paints.
  let at = { x: 0.5, y: 0.5 }
  frame.addEventListener('keydown', (event) => {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0]
    if (event.key === '+' || event.key === '-') resize(side + (event.key === '+' ? 0.05 : -0.05))
    else if (event.key === ' ' && tool() > 0) dab(at.x, at.y)
    else if (!dx && !dy) return
    else if (tool() === 0) { x += dx * 0.02; y += dy * 0.02; place() }
    else at = { x: Math.min(1, Math.max(0, at.x + dx * 0.05)), y: Math.min(1, Math.max(0, at.y + dy * 0.05)) }
    event.preventDefault()
    hint()
    if (tool() > 0) setText(text, `The brush is at ${Math.round(at.x * 100)} % from the left and ${Math.round(at.y * 100)} % from above; the space bar paints.`)
  })
  zoom.addEventListener('input', () => resize(Number(zoom.value)))

  /** White where it is learned, black where it is painted out; nothing where all is learned. */
  function mask() {
    const data = pen.getImageData(0, 0, maskSide, maskSide)
    let any = false
    for (let i = 0; i < data.data.length; i += 4) {
      const value = data.data[i + 3] > 127 ? 0 : 255
      any ||= !value
      data.data.set([value, value, value, 255], i)
    }
    if (!any) return null
    const sheet = h('canvas', { width: maskSide, height: maskSide })
    sheet.getContext('2d').putImageData(data, 0, 0)
    return sheet.toDataURL('image/png').split(',')[1]
  }

  const chosen = () => ({ x, y, side, quarters, mask: mask() })

  async function save(part) {
    keep.disabled = true
    try {
      await ask('PUT', `concepts/${id}/pictures/${picture.number}/part`, { part })
      dialog.close()
    } catch (error) { setText(text, error.message) }
    keep.disabled = false
  }

  if (part.mask) {
    const old = new Image()
    old.onload = () => {
      pen.drawImage(old, 0, 0, maskSide, maskSide)
      const data = pen.getImageData(0, 0, maskSide, maskSide)
      for (let i = 0; i < data.data.length; i += 4) data.data.set([200, 40, 40, data.data[i] < 128 ? 255 : 0], i)
      pen.putImageData(data, 0, 0)
      painted = true
      hint()
    }
    old.src = 'data:image/png;base64,' + part.mask
  }
  document.body.append(dialog)
  load()
  dialog.showModal()
  place()
  hint()
}
