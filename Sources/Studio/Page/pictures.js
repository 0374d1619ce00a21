// The pictures that a concept is learned from: chosen, shown as the trainer sees them, described.
import { ask, concept, square, studio } from './studio.js'
import { acceptDrops, attempt, h, list, setSource, setText, toast } from './dom.js'
import { editSquare } from './square.js'

/** The section of a page; `current` gives the concept's id, or makes a concept. */
export function picturesSection(current, startExample) {
  const input = h('input', {
    type: 'file', accept: 'image/*', multiple: true, hidden: true,
    onchange: () => { add([...input.files]); input.value = '' },
  })
  const drop = h('div', { class: 'drop' },
    h('p', {}, 'Drag 3 to 6 pictures of one thing here, or'),
    h('div', { class: 'row' },
      h('button', { type: 'button', id: 'choose', onclick: () => input.click() }, 'Choose pictures…')), input)
  acceptDrops(drop, add)
  const examples = h('p', { class: 'row' }, h('span', { class: 'quiet' }, 'Only looking? Take an example:'),
    studio.about.examples.map((e) => h('button', {
      type: 'button', class: 'small', onclick: () => startExample(e.name),
    }, `${e.name} (${e.kind})`)))
  const problems = h('div', { role: 'status' })
  const tiles = h('div', { class: 'tiles' })
  const hint = h('p', { class: 'quiet' })
  const section = h('section', {}, h('h2', {}, h('span', { class: 'number' }, '1'), 'Pictures'),
    drop, examples, problems, tiles, hint)

  /** What was dropped beside the box. */
  function take(files) {
    if (!drop.hidden) return add(files)
    toast('These pictures stay as they are. “Learn another one” takes new ones, and on “Generate” an image of neti gives its settings back.')
  }

  async function add(files) {
    problems.replaceChildren()
    if (!files.length) problems.append(h('p', { class: 'warn' }, 'Nothing that was dropped is a file.'))
    for (const file of files) {
      try {
        if (file.size > studio.about.mostPictureBytes) throw new Error(`${file.name} is too large.`)
        const id = await current(true)
        await ask('POST', `concepts/${id}/pictures?name=${encodeURIComponent(file.name)}`, file)
      } catch (error) { problems.append(h('p', { class: 'warn' }, error.message)) }
    }
  }

  const update = () => {
    const c = concept(current.id)
    const isFixed = Boolean(c && c.progress.state !== 'pictures')
    drop.hidden = isFixed
    examples.hidden = isFixed || Boolean(c?.pictures.length)
    list(tiles, c?.pictures ?? [], (p) => `${c.id}-${p.number}`, (p) => pictureTile(c.id, p), (tile, p) => {
      for (const field of tile.querySelectorAll('details, button')) field.hidden = isFixed
      setSource(tile.querySelector('img'), square(c, p))
      setText(tile.querySelector('.note'), [p.note, p.part?.mask ? 'Parts of it are left out.' : null].filter(Boolean).join(' '))
      const caption = tile.querySelector('input')
      if (document.activeElement !== caption && !tile.querySelector('details').open) caption.value = p.caption
    })
    const count = c?.pictures.length ?? 0
    setText(hint, count ? `Each square is exactly what is learned from${count < 3 ? '; three or more pictures work better' : ''}.` : '')
  }
  return { section, update, take }
}

function pictureTile(id, picture) {
  const caption = h('input', { value: picture.caption, placeholder: 'a photo of a {} on a table', maxLength: 500 })
  const warning = h('p', { class: 'warn', role: 'status' })
  caption.addEventListener('input', () => {
    const count = caption.value.split('{}').length - 1
    setText(warning, !caption.value.trim() || count === 1 ? ''
      : count ? '{} may stand there only once.' : 'Write {} where the thing itself belongs.')
  })
  caption.addEventListener('change', async () => {
    try { await ask('PUT', `concepts/${id}/pictures/${picture.number}/caption`, { caption: caption.value }) }
    catch (error) { setText(warning, 'Not kept: ' + error.message) }
  })
  return h('div', { class: 'tile' },
    h('img', { alt: `Picture ${picture.number}: ${picture.name}` }), h('p', { class: 'warn note' }),
    h('div', { class: 'row' }, h('button', {
      type: 'button', class: 'small', 'aria-label': `Square of picture ${picture.number}`,
      onclick: () => {
        const now = concept(id)?.pictures.find((p) => p.number === picture.number)
        if (now) editSquare(id, now)
      },
    }, 'Square…'), h('button', {
      type: 'button', class: 'small', 'aria-label': `Remove picture ${picture.number}`,
      onclick: () => attempt(async () => {
        await ask('DELETE', `concepts/${id}/pictures/${picture.number}`)
        toast('The picture was removed; your own file is untouched.')
      }),
    }, 'Remove')),
    h('details', {}, h('summary', {}, 'Describe it'),
      h('label', {}, h('span', {}, 'What the picture shows, with {} for the thing'), caption), warning))
}
