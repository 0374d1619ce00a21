// From pictures to a concept: the name, how thoroughly, and watching it being learned.
import { arrival, ask, concept, studio, watch } from './studio.js'
import { attempt, duration, h, list, sentence, setSource, setText, size, toast } from './dom.js'
import { picturesSection } from './pictures.js'

/** What is between the studio and one concept: its id, made when it is first needed. */
function currentConcept(id) {
  let made
  const current = async (make) => {
    if (!current.id && make) {
      // Several drops at once make one concept.
      made ??= ask('POST', 'concepts', {})
      try { current.id = (await made).id } finally { made = undefined }
      if (location.hash.startsWith('#learn') || !location.hash) history.replaceState(null, '', '#learn/' + current.id)
    }
    return current.id
  }
  current.id = id
  return current
}

export function learnView(main, [id]) {
  // A page that is opened anew shows what is not finished.
  const busy = studio.work.learning ?? studio.concepts.find((c) => c.progress.state !== 'learned')?.id
  // One that was deleted is begun anew.
  const current = currentConcept(id === 'new' ? undefined : concept(id)?.id ?? (id ? undefined : busy))
  const pictures = picturesSection(current, (name) => attempt(async () => {
    const { id } = await ask('POST', 'concepts', { example: name })
    await arrival(id)
    location.hash = '#learn/' + id
  }))
  const plan = planSection(current)
  const progress = progressSection(current)
  main.append(progress.section, pictures.section, plan.section)
  main.addEventListener('files', (event) => pictures.take(event.detail))
  return watch(() => {
    const c = concept(current.id)
    for (const part of [pictures, plan, progress]) part.update(c)
  })
}

/** Seconds that so many steps take here, with the pauses between them; nothing before that was measured. */
function foreseen(steps) {
  const { step, pause } = studio.work.experience ?? {}
  const every = Math.max(studio.about.leastPause, Math.floor(steps / studio.about.pauses))
  return step ? step * steps + pause * Math.floor(steps / every) : null
}

/** The number in a field; null where it is empty. */
function number(field, name, isWhole = false) {
  if (field.validity.badInput) throw new Error(`${name} must be a number.`)
  if (isWhole && !Number.isInteger(Number(field.value))) throw new Error(`${name} must be a whole number.`)
  return field.value === '' ? null : Number(field.value)
}

/** What a concept can be made of. */
const kinds = {
  neti: 'time and layer', ti: 'one vector', xti: 'a vector a layer', time: 'time alone', space: 'layer alone',
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
  const { learning } = studio.about
  const rate = h('input', { type: 'number', min: 0, step: 'any' })
  const batch = h('input', { type: 'number', min: 1 })
  const vectors = h('input', { type: 'number', min: 1, max: 16 })
  const representation = h('select', {}, learning.representations.map((name) => h('option', {
    value: name, selected: name === learning.representation,
  }, kinds[name] ? `${name}: ${kinds[name]}` : name)))
  const rateText = h('span', {})
  const isUsual = () => !batch.value && !vectors.value && representation.value === learning.representation
  const times = new Map(qualities.map(([value]) => [value, h('span', { class: 'time' })]))
  const choices = h('fieldset', { class: 'choices' }, h('legend', {}, 'How thoroughly?'),
    qualities.map(([value, name, text]) => h('label', { class: 'choice' },
      h('input', { type: 'radio', name: 'quality', value, checked: value === 'good' }), h('b', {}, name),
      h('span', {}, `${text}: ${studio.about.steps[value]} steps`), times.get(value))))
  const button = h('button', { class: 'main', id: 'learn' }, 'Learn it')
  const estimate = h('p', { class: 'quiet', id: 'estimate' })
  const cannot = h('p', { class: 'warn' })
  const foresee = () => {
    const count = Number(steps.value) || studio.about.steps[form.elements.quality.value]
    steps.placeholder = String(studio.about.steps[form.elements.quality.value])
    const { value, growsWithBatch } = learning.rates[representation.value] ?? {}
    const usual = value && value * (growsWithBatch ? (Number(batch.value) || learning.batch) / learning.batch : 1)
    setText(rateText, 'Learning rate' + (usual ? `; ${Number(usual.toPrecision(6))} when left empty` : ''))
    if (!isUsual()) {
      for (const element of times.values()) setText(element, '')
      setText(cannot, '')
      return setText(estimate, 'How long it takes with these settings, and how much memory, is measured in the first steps.')
    }
    const { memory } = studio.work.experience ?? {}
    const time = foreseen(count)
    for (const [value, element] of times) {
      const seconds = foreseen(studio.about.steps[value])
      setText(element, seconds ? `about ${duration(seconds)}` : '')
    }
    setText(estimate, [
      time ? `About ${duration(time)}` : studio.work.isTrying ? 'A few steps are tried now, to say how long it takes'
        : 'How long it takes is measured in the first steps',
      memory ? `up to ${size(memory)} of memory, as measured here` : studio.about.memory ? `about ${studio.about.memory} of memory` : null,
    ].filter(Boolean).join('; ') + '.')
    setText(cannot, sentence(studio.work.trialProblem ?? ''))
  }
  const failed = h('p', { class: 'warn', role: 'status' })
  let isAsking = false
  // The studio checks what is typed, and says what is wrong with it where it can be seen.
  const form = h('form', { noValidate: true }, h('div', { class: 'fields' },
    h('label', {}, h('span', {}, 'A name for it'), title),
    h('label', {}, h('span', {}, 'What kind of thing it is, in one word'), kind)),
  h('p', {}), choices,
  h('details', {}, h('summary', {}, 'More'), h('div', { class: 'fields' },
    h('label', {}, h('span', {}, 'Training steps'), steps),
    h('label', {}, h('span', {}, 'Seed: the same gives the same concept'), seed),
    h('label', {}, rateText, rate),
    h('label', {}, h('span', {}, `Batch: images at a time; ${learning.batch} when left empty`), batch),
    h('label', {}, h('span', {}, 'Representation: what it is made of'), representation),
    h('label', {}, h('span', {}, `Vectors: words that it takes in a prompt; ${learning.vectors} when left empty`), vectors),
    h('label', {}, style, ' It is a style, not a thing')),
  h('p', { class: 'quiet' }, `The rest is as the model likes it: ${studio.about.side} × ${studio.about.side} pixels, ${learning.accumulation} ${learning.accumulation > 1 ? 'batches' : 'batch'} a step.`)),
  estimate, cannot, h('div', { class: 'row' }, button), failed)
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    if (isAsking) return
    isAsking = button.disabled = true
    attempt(async () => {
      const id = await current(false)
      if (!id) throw new Error('Choose some pictures first.')
      await ask('POST', `concepts/${id}/learn`, {
        title: title.value, kind: kind.value, quality: form.elements.quality.value,
        steps: number(steps, 'Training steps', true), seed: number(seed, 'The seed', true) ?? 0, isStyle: style.checked,
        learningRate: number(rate, 'The learning rate'), batch: number(batch, 'The batch', true),
        vectors: number(vectors, 'The number of vectors', true),
        representation: representation.value === learning.representation ? null : representation.value,
      })
      document.getElementById('view').focus()
      scrollTo({ top: 0 })
    }).finally(() => { isAsking = button.disabled = false })
  })
  form.addEventListener('input', foresee)
  const section = h('section', {}, h('h2', {}, h('span', { class: 'number' }, '2'), 'Name it and learn it'), form)
  let filled
  return {
    section,
    update: (c) => {
      section.hidden = Boolean(c && c.progress.state !== 'pictures')
      button.disabled = !c?.pictures.length || isAsking
      foresee()
      setText(failed, sentence(c?.progress.problem ?? ''))
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
  const line = h('p', {})
  // Only what happens is read aloud, not every step.
  const said = h('p', { class: 'unseen', role: 'status' })
  const problem = h('p', { class: 'warn' })
  const stop = h('button', { onclick: () => attempt(() => ask('POST', `concepts/${current.id}/stop`)) }, 'Stop, and keep the work')
  const goOn = h('button', { class: 'main', onclick: () => attempt(() => ask('POST', `concepts/${current.id}/resume`)) }, 'Go on')
  const use = h('button', { class: 'main', onclick: () => { location.hash = '#generate/' + current.id } }, 'Generate with it')
  const look = h('button', { onclick: () => { location.hash = '#look/' + current.id } }, 'Look inside')
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
  const section = h('section', {}, heading, bar, line, said, problem, h('div', { class: 'row' }, use, look, goOn, stop, another),
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
    setText(said, headings[state](c))
    bar.hidden = state === 'learned'
    bar.value = step / c.steps
    setText(line, status(c, state, job, step))
    look.hidden = use.hidden = state !== 'learned' || !c.fits
    copy.hidden = !navigator.clipboard
    details.hidden = !c.commandLine
    setText(problem, [c.progress.problem, ...(job?.warnings ?? [])].filter(Boolean).map(sentence).join(' '))
    stop.hidden = !(state === 'learning' || state === 'waiting')
    stop.disabled = Boolean(job?.isStopping)
    goOn.hidden = state !== 'stopped' || !c.fits
    another.hidden = state !== 'learned' && state !== 'stopped'
    setText(command, c.commandLine ?? '')
    showPreviews(c)
    loss.update(c)
  }

  function showPreviews(c) {
    const steps = c.progress.previews
    history.hidden = !steps.length
    if (history.hidden) return
    slider.max = steps.length - 1
    if (!isLookingBack) slider.value = steps.length - 1
    slider.hidden = steps.length < 2
    const step = steps[Number(slider.value)]
    slider.setAttribute('aria-valuetext', `after ${step} steps`)
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
  if (state === 'waiting') {
    const before = studio.work.toLearn.indexOf(c.id)
    return `It begins when what is being learned is done${before > 0 ? `, and ${before} more before it` : ''}.`
  }
  if (state === 'stopped') return `Step ${step} of ${c.steps} is kept. It can go on from there, to exactly the same concept.`
  if (state === 'learned' && c.isImported) return 'It came as a file.'
  if (state === 'learned') return `${c.steps} steps, from ${c.pictures.length} pictures.`
  if (job?.isStopping) return job.total ? `Stopping after step ${step}…` : 'Stopping when the pictures are prepared…'
  if (!job?.total) return 'Preparing the pictures…'
  const left = job.secondsLeft === undefined ? 'measuring how long it takes' : `about ${duration(job.secondsLeft)} left`
  const memory = job.memory ? `, ${size(job.memory)} of memory at most` : ''
  return `Step ${step} of ${c.steps}, ${left}${memory}. You can close this page: learning goes on.`
}

/** The loss at each checkpoint, on timesteps and noises that stay the same; the best is marked. */
function lossChart(current) {
  const shape = (tag, attributes) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag)
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
    return element
  }
  const path = shape('path', {})
  const best = shape('line', { class: 'best', y1: 0, y2: 40 })
  // Seen when there is something to draw, and words for it.
  const svg = shape('svg', { viewBox: '0 0 100 40', preserveAspectRatio: 'none', class: 'chart', role: 'img', hidden: '' })
  svg.append(best, path)
  const words = h('p', {})
  const element = h('details', {}, h('summary', {}, 'The loss'), svg, words,
    h('p', { class: 'quiet' }, 'How far the concept is from its pictures, on noises that nothing is trained on and that are the same each time. Lower is better; the mark is the best so far.'))
  let shown, latest = 0
  async function draw() {
    const c = concept(current.id)
    if (!c) return
    const turn = ++latest
    const points = await ask('GET', `concepts/${c.id}/losses`)
    // An answer that comes late is not drawn over a newer one.
    if (turn !== latest) return
    svg.toggleAttribute('hidden', !points.length)
    if (!points.length) return setText(words, 'The first is measured at the first checkpoint.')
    const losses = points.map((p) => Number(p.loss))
    const [low, high] = [Math.min(...losses), Math.max(...losses)]
    // Within the edges, where half of the mark would be cut off.
    const x = (step) => (1 + 98 * step / Math.max(1, c.steps)).toFixed(2)
    const y = (loss) => (36 - 32 * (loss - low) / (high - low || 1)).toFixed(2)
    path.setAttribute('d', (points.length === 1 ? [points[0], points[0]] : points).map((p, i) => `${i ? 'L' : 'M'}${x(p.step)} ${y(Number(p.loss))}`).join(''))
    const winner = points[losses.indexOf(low)]
    best.setAttribute('x1', x(winner.step))
    best.setAttribute('x2', x(winner.step))
    const text = `The best so far: step ${winner.step}, with a loss of ${low.toFixed(4)}.`
    setText(words, text)
    svg.setAttribute('aria-label', text)
  }
  element.addEventListener('toggle', () => { if (element.open) attempt(draw) })
  return {
    element,
    update: (c) => {
      element.hidden = c.isImported
      const name = `${c.id} ${c.progress.checkpoints.length} ${c.progress.state}`
      if (!element.open || shown === name) return
      shown = name
      attempt(draw)
    },
  }
}
