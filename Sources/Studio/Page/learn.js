// From pictures to a concept: the name, how thoroughly, and watching it being learned.
import { ask, concept, studio, watch } from './studio.js'
import { attempt, clock, h, list, setSource, setText, toast } from './dom.js'
import { picturesSection } from './pictures.js'

/** What is between the studio and one concept: its id, made when it is first needed. */
function currentConcept(id) {
  const current = async (make) => {
    if (!current.id && make) {
      current.id = (await ask('POST', 'concepts', {})).id
      history.replaceState(null, '', '#learn/' + current.id)
    }
    return current.id
  }
  current.id = id
  return current
}

export function learnView(main, [id]) {
  // A page that is opened anew shows what is not finished.
  const busy = studio.work.learning ?? studio.concepts.find((c) => c.progress.state !== 'learned')?.id
  const current = currentConcept(id === 'new' ? undefined : id ?? busy)
  const pictures = picturesSection(current, (name) => attempt(async () => {
    current.id = (await ask('POST', 'concepts', { example: name })).id
    location.hash = '#learn/' + current.id
  }))
  const plan = planSection(current)
  const progress = progressSection(current)
  main.append(progress.section, pictures.section, plan.section)
  return watch(() => {
    const c = concept(current.id)
    for (const part of [pictures, plan, progress]) part.update(c)
  })
}

const qualities = [
  ['quick', 'Quick', 'a first look'], ['good', 'Good', 'what suits the model'], ['best', 'Best', 'takes its time'],
]

function planSection(current) {
  const title = h('input', { id: 'title', maxLength: 60, placeholder: 'Ginger', autocomplete: 'off' })
  const kind = h('input', { id: 'kind', maxLength: 40, placeholder: 'cat', autocomplete: 'off' })
  const steps = h('input', { type: 'number', min: 1, max: 100000, placeholder: 'as chosen above' })
  const seed = h('input', { type: 'number', min: 0, value: 0 })
  const style = h('input', { type: 'checkbox' })
  const choices = h('fieldset', { class: 'choices' }, h('legend', {}, 'How thoroughly?'),
    qualities.map(([value, name, text]) => h('label', { class: 'choice' },
      h('input', { type: 'radio', name: 'quality', value, checked: value === 'good' }), h('b', {}, name),
      h('span', {}, `${text}: ${studio.about.steps[value]} steps`))))
  const button = h('button', { class: 'main', id: 'learn' }, 'Learn it')
  const form = h('form', {}, h('div', { class: 'fields' },
    h('label', {}, h('span', {}, 'A name for it'), title),
    h('label', {}, h('span', {}, 'What kind of thing it is, in one word'), kind)),
  h('p', {}), choices,
  h('details', {}, h('summary', {}, 'More'), h('div', { class: 'fields' },
    h('label', {}, h('span', {}, 'Training steps'), steps),
    h('label', {}, h('span', {}, 'Seed: the same gives the same concept'), seed),
    h('label', {}, style, ' It is a style, not a thing'))),
  h('p', {}), h('div', { class: 'row' }, button, h('span', { class: 'quiet' },
    studio.about.memory ? `Takes about ${studio.about.memory} of memory; the time is measured in the first steps.` : '')))
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    attempt(async () => {
      const id = await current(false)
      if (!id) throw new Error('Choose some pictures first.')
      await ask('POST', `concepts/${id}/learn`, {
        title: title.value, kind: kind.value, quality: form.elements.quality.value,
        steps: steps.value ? Number(steps.value) : null, seed: Number(seed.value || 0), isStyle: style.checked,
      })
      document.getElementById('view').focus()
      scrollTo({ top: 0 })
    })
  })
  const section = h('section', {}, h('h2', {}, h('span', { class: 'number' }, '2'), 'Name it and learn it'), form)
  let filled
  return {
    section,
    update: (c) => {
      section.hidden = Boolean(c && c.progress.state !== 'pictures')
      button.disabled = !c?.pictures.length
      // An example says what it is; what a person typed stays.
      if (c && filled !== c.id) {
        filled = c.id
        title.value ||= c.title
        kind.value ||= c.kind
      }
    },
  }
}

function progressSection(current) {
  const heading = h('h2', {})
  const bar = h('progress', { max: 1, value: 0, 'aria-label': 'Steps that are done' })
  const line = h('p', { role: 'status' })
  const problem = h('p', { class: 'warn' })
  const stop = h('button', { onclick: () => attempt(() => ask('POST', `concepts/${current.id}/stop`)) }, 'Stop, and keep the work')
  const goOn = h('button', { class: 'main', onclick: () => attempt(() => ask('POST', `concepts/${current.id}/resume`)) }, 'Go on')
  const use = h('button', { class: 'main', onclick: () => { location.hash = '#generate/' + current.id } }, 'Generate with it')
  const another = h('button', { onclick: () => { location.hash = '#learn/new' } }, 'Learn another one')
  const slider = h('input', { type: 'range', min: 0, step: 1, 'aria-label': 'How it looked after so many steps' })
  const when = h('p', { class: 'quiet' })
  const previews = h('div', { class: 'tiles' })
  const history = h('div', {}, previews, slider, when)
  const loss = lossChart(current)
  const command = h('code', {})
  const copy = h('button', { type: 'button', class: 'small', onclick: () => attempt(async () => {
    await navigator.clipboard.writeText(command.textContent)
    toast('Copied.')
  }) }, 'Copy')
  const details = h('details', {}, h('summary', {}, 'The same on the command line'),
    h('p', { class: 'quiet' }, 'This line learns exactly the same concept, byte for byte.'), command, copy)
  const section = h('section', {}, heading, bar, line, problem, h('div', { class: 'row' }, use, goOn, stop, another),
    history, loss.element, details)
  // The newest, until someone looks back.
  let isLookingBack = false
  slider.addEventListener('input', () => { isLookingBack = slider.value !== slider.max; update(concept(current.id)) })

  function update(c) {
    section.hidden = !c || c.progress.state === 'pictures'
    if (section.hidden) return
    const state = c.progress.state
    const job = studio.work.learning === c.id ? studio.work.learnJob : null
    const step = job && job.total ? job.step : c.progress.step
    setText(heading, headings[state](c))
    bar.hidden = state === 'learned'
    bar.value = step / c.steps
    setText(line, status(c, state, job, step))
    setText(problem, [c.progress.problem, ...(job?.warnings ?? [])].filter(Boolean).join(' '))
    stop.hidden = !(state === 'learning' || state === 'waiting')
    stop.disabled = Boolean(job?.isStopping)
    goOn.hidden = state !== 'stopped' || !c.fits
    use.hidden = state !== 'learned' || !c.fits
    another.hidden = state !== 'learned' && state !== 'stopped'
    setText(command, c.commandLine ?? '')
    showPreviews(c)
    loss.update(c, step)
  }

  function showPreviews(c) {
    const steps = c.progress.previews
    history.hidden = !steps.length
    if (history.hidden) return
    slider.max = steps.length - 1
    if (!isLookingBack) slider.value = steps.length - 1
    slider.hidden = steps.length < 2
    const step = steps[Number(slider.value)]
    list(previews, [...Array(c.progress.previewCount).keys()], (i) => i, (i) => h('div', { class: 'tile' },
      h('img', { alt: `Generated picture ${i + 1}` })), (tile, i) =>
      setSource(tile.querySelector('img'), `/api/concepts/${c.id}/previews/${step}/${i}`))
    setText(when, `After ${step} steps, always from the same noise. The slider goes back in time.`)
  }
  return { section, update }
}

const headings = {
  waiting: (c) => `${c.title} waits for its turn`,
  learning: (c) => `Learning ${c.title}`,
  stopped: (c) => `${c.title} is not finished`,
  learned: (c) => `${c.title} is learned`,
}

function status(c, state, job, step) {
  if (state === 'waiting') return 'It begins when what is being learned is done.'
  if (state === 'stopped') return `Step ${step} of ${c.steps} is kept. It can go on from there, to exactly the same concept.`
  if (state === 'learned') return `${c.steps} steps, from ${c.pictures.length} pictures.`
  if (!job?.total) return 'Preparing the pictures…'
  if (job.isStopping) return `Stopping after step ${step}…`
  const left = job.secondsLeft === undefined ? 'measuring how long it takes' : `about ${clock(job.secondsLeft)} left`
  return `Step ${step} of ${c.steps}, ${left}. You can close this page: learning goes on.`
}

/** The loss of all steps, smoothed; it should fall. */
function lossChart(current) {
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path')
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  svg.setAttribute('viewBox', '0 0 100 40')
  svg.setAttribute('preserveAspectRatio', 'none')
  svg.setAttribute('class', 'chart')
  svg.setAttribute('role', 'img')
  svg.append(path)
  const element = h('details', {}, h('summary', {}, 'The loss'), svg,
    h('p', { class: 'quiet' }, 'How far the model is from the pictures, step by step, smoothed. It jumps; what counts is that it falls.'))
  let shown
  async function draw() {
    const c = concept(current.id)
    const losses = await ask('GET', `concepts/${c.id}/losses`)
    let mean = losses[0]
    const smooth = losses.map((loss) => { mean = 0.9 * mean + 0.1 * Number(loss); return mean })
    const [low, high] = [Math.min(...smooth), Math.max(...smooth)]
    path.setAttribute('d', smooth.map((v, i) =>
      `${i ? 'L' : 'M'}${(100 * i / Math.max(1, c.steps - 1)).toFixed(2)} ${(38 - 36 * (v - low) / (high - low || 1)).toFixed(2)}`).join(''))
    svg.setAttribute('aria-label', `The loss after ${losses.length} steps is ${mean?.toFixed(4) ?? 'not known'}`)
  }
  element.addEventListener('toggle', () => { if (element.open) attempt(draw) })
  return {
    element,
    update: (c, step) => {
      const name = `${c.id} ${Math.floor(step / 5)}`
      if (!element.open || shown === name) return
      shown = name
      attempt(draw)
    },
  }
}
