// The status page, live. The proxy makes every part as HTML; this puts the new one in the place of the old, so that focus
// and opened details stay. One stream carries the parts and, while somebody watches, decisions. The token for writes lives
// in a variable here and nowhere else.
'use strict'
const $ = (id) => document.getElementById(id)
document.documentElement.className = 'on'

// --- parts
function morph(old, now) {
  if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName) return old.replaceWith(now)
  if (old.nodeType !== 1) { if (old.data !== now.data) old.data = now.data; return }
  for (const { name } of [...old.attributes]) if (name !== 'open' && !now.hasAttribute(name)) old.removeAttribute(name)
  for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value)
  const keyed = new Map([...old.children].filter((child) => child.dataset.key).map((child) => [child.dataset.key, child]))
  let at = old.firstChild
  for (const next of [...now.childNodes]) {
    const key = next.dataset?.key
    const same = key ? keyed.get(key) : at && !at.dataset?.key ? at : null
    if (!same) { old.insertBefore(next, at); continue }
    if (same === at) at = at.nextSibling
    else old.insertBefore(same, at)
    morph(same, next)
  }
  while (at) { const gone = at; at = at.nextSibling; gone.remove() }
}

let code = $('headline').dataset.code
function part({ id, html }) {
  const now = new DOMParser().parseFromString(html, 'text/html').body.firstElementChild
  if ($(id) && now) morph($(id), now)
  if (id !== 'headline') return
  title()
  // A reader is told of another kind of fact, not of each figure.
  if ($(id).dataset.code !== code) { code = $(id).dataset.code; $('said').textContent = $('worst').textContent }
}
function title() {
  const head = $('headline')
  document.title = head.className === 'good' ? 'Surgegate' : $('worst').textContent.trim().split(':')[0] + ' – Surgegate'
}

// --- the stream
let filter = null
let stream = null
let heard = 0
let wait = 1000
async function follow() {
  stream?.abort()
  if (document.hidden) return
  const mine = (stream = new AbortController())
  try {
    const answer = await fetch('/api/v1/live' + (filter === null ? '' : '?tap=true&' + filter), { signal: mine.signal })
    if (!answer.ok) throw Object.assign(new Error((await answer.json()).message), { status: answer.status })
    wait = 1000
    if (filter !== null) tapped('Watching.')
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
    let text = ''
    for (;;) {
      const { value, done } = await reader.read()
      if (done) break
      heard = Date.now()
      text += value
      const events = text.split('\n\n')
      text = events.pop()
      events.forEach(event)
      live()
    }
    throw new Error('the stream ended')
  } catch (error) {
    if (mine.signal.aborted) return
    // A filter that is refused is the reader's to mend; the figures go on without it.
    if (filter !== null && error.status) { filter = null; watching(false); tapped(error.message); return follow() }
    setTimeout(() => { if (stream === mine) follow() }, wait)
    wait = Math.min(wait * 2, 10000)
    live(error.message)
  }
}
function event(text) {
  const name = /^event: (.*)$/m.exec(text)?.[1]
  const data = /^data: (.*)$/m.exec(text)?.[1]
  if (name === 'part') part(JSON.parse(data))
  else if (name === 'decision') decided(JSON.parse(data))
  else if (name === 'lost') tapped(JSON.parse(data).count + ' decisions were not shown: this reader was too slow.')
}
function live(trouble) {
  const late = Math.round((Date.now() - heard) / 1000)
  const away = heard && (late > 4 || trouble)
  const said = away ? `■ NO ANSWER for ${late} s: these figures are old` : heard ? '● live' : ''
  if ($('link').textContent !== said) $('link').textContent = said
  $('link').className = away ? 'js bad' : 'js'
}
setInterval(() => { if (!document.hidden && heard) live() }, 1000)
document.addEventListener('visibilitychange', () => {
  if (document.hidden) stream?.abort()
  else { heard = 0; follow() }
})

// --- decisions
const SHOWN = 100
let paused = null
function decided(decision) {
  if (paused) { if (paused.push(decision) > SHOWN) paused.shift(); tapped(`Paused; ${paused.length} wait.`); return }
  const row = document.createElement('tr')
  const said = [
    ['Time (UTC)', decision.at.slice(11, 27)], ['Status', decision.status], ['Ended', decision.outcome ?? decision.reason],
    ['Integration', decision.integration], ['What', [decision.dialect, decision.action].filter(Boolean).join(' ')],
    ['Key', decision.key], ['Event or request', decision.event_uid ?? decision.request_id],
  ]
  for (const [label, value] of said) {
    const cell = row.insertCell()
    cell.dataset.label = label
    cell.textContent = value || '–'
  }
  row.className = 'fresh'
  const body = $('decisions').tBodies[0]
  body.prepend(row)
  while (body.rows.length > SHOWN) body.lastChild.remove()
}
function tapped(text) { $('tapped').textContent = text }
function watching(is) {
  $('watch').textContent = is ? 'Stop' : 'Watch'
  $('pause').disabled = !is
  hold(false)
}
function hold(is) {
  const waiting = is ? null : paused
  paused = is ? [] : null
  $('pause').textContent = is ? 'Go on' : 'Pause'
  $('pause').setAttribute('aria-pressed', is)
  waiting?.forEach(decided)
}
$('filter').addEventListener('submit', (submit) => {
  submit.preventDefault()
  if (filter === null) {
    const form = $('filter').elements
    const query = new URLSearchParams(form.ended.value)
    for (const name of ['integration', 'key']) if (form[name].value) query.set(name, form[name].value)
    filter = query.toString()
    watching(true)
    tapped('…')
  } else { filter = null; watching(false); tapped('Not watching.') }
  follow()
})
$('pause').addEventListener('click', () => { hold(!paused); tapped(paused ? 'Paused; 0 wait.' : 'Watching.') })
$('clear').addEventListener('click', () => $('decisions').tBodies[0].replaceChildren())

// --- what an operator may do: each is one call of the API, asked for first
let token = ''
const API = '/api/v1/'
async function call(method, path) {
  const answer = await fetch(API + path, { method, headers: token ? { Authorization: 'Bearer ' + token } : {} })
  const said = await answer.json()
  if (answer.status === 401) { token = ''; $('ask-token').hidden = false }
  if (!answer.ok) throw new Error(said.message ?? answer.statusText)
  return said
}
const many = (count, noun = 'dead letter') => `${count} ${noun}${count === 1 ? '' : 's'}`
const ACTS = {
  replay: ({ query, what }) => ({
    title: `Replay dead letters ${what}`, label: 'Replay', pace: true,
    first: async () => {
      const would = await call('POST', `dead-letters/replay?${query}&dry_run=true`)
      return `Dry run: ${many(would.replayed)} would be sent again, ${would.refused} refused.`
    },
    act: async (form) => {
      const pace = form.pace.value.trim()
      const did = await call('POST', `dead-letters/replay?${query}` + (pace ? `&per_second=${encodeURIComponent(pace)}` : ''))
      return `${many(did.scheduled ?? did.replayed)} ${did.scheduled ? 'will be' : 'are being'} sent again, ${did.refused} refused.`
    },
  }),
  drop: ({ query, what }) => ({
    title: `Drop dead letters ${what}`, label: 'Drop for good', count: true,
    first: async () => `Dry run: ${many((await call('DELETE', `dead-letters?${query}&dry_run=true`)).would_drop)} would be dropped for good.`,
    act: async (form) => {
      const did = await call('DELETE', `dead-letters?${query}&confirm=${encodeURIComponent(form.count.value.trim())}`)
      return `${many(did.dropped)} dropped.`
    },
  }),
  'replay-one': ({ id }) => ({
    title: `Replay ${id}`, label: 'Replay', text: 'It is sent again, with the others of its incident at that upstream, in order.',
    act: async () => `${many((await call('POST', `dead-letters/${encodeURIComponent(id)}/replay`)).replayed)} sent again.`,
  }),
  'drop-one': ({ id }) => ({
    title: `Drop ${id}`, label: 'Drop for good', text: 'It is gone then, and never sent.',
    act: async () => `${many((await call('DELETE', `dead-letters/${encodeURIComponent(id)}`)).dropped)} dropped.`,
  }),
  show: ({ id }) => ({
    title: id,
    first: async () => {
      $('ask-data').textContent = JSON.stringify(await call('GET', `dead-letters/${encodeURIComponent(id)}`), null, 2)
      $('ask-data').hidden = false
      return ''
    },
  }),
  reload: () => ({
    title: 'Reload the configuration', label: 'Reload',
    text: 'The files are read again and taken, or nothing is changed.',
    act: async () => {
      await call('POST', 'reload')
      return 'It is in force.'
    },
  }),
}

let asked = null
let asker = null
async function tell(work, after) {
  $('ask-do').disabled = true
  $('ask-text').textContent = '…'
  try {
    $('ask-text').textContent = await work()
    after?.()
  } catch (error) {
    $('ask-text').textContent = error.message
    $('ask-do').disabled = false
    // Also where it was but a dry run: that writes nothing, but only who may write may ask.
    if (!$('ask-token').hidden) {
      $('ask-do').textContent = 'Go on with this token'
      $('ask').querySelector('[name=token]').focus()
    }
    return false
  }
  return true
}
async function first() {
  if (!asked.first || await tell(asked.first)) { asked.ready = true; $('ask-do').disabled = false }
}
document.addEventListener('click', async (click) => {
  const button = click.target.closest('[data-act]')
  if (!button) return
  asker = button
  asked = ACTS[button.dataset.act](button.dataset)
  $('ask-h').textContent = asked.title
  $('ask-text').textContent = asked.text ?? ''
  $('ask-data').hidden = true
  $('ask-token').hidden = true
  $('ask-pace').hidden = !asked.pace
  $('ask-count').hidden = !asked.count
  $('ask').querySelectorAll('input').forEach((input) => { input.value = '' })
  $('ask-do').hidden = !asked.label
  $('ask-do').textContent = asked.label ?? ''
  $('ask-close').textContent = 'Close'
  $('ask').showModal()
  await first()
})
$('ask').addEventListener('submit', async (submit) => {
  if (submit.submitter?.value === 'close') return
  submit.preventDefault()
  const form = submit.target.elements
  if (!$('ask-token').hidden && form.token.value) {
    token = form.token.value
    form.token.value = ''
    $('ask-token').hidden = true
    $('ask-do').textContent = asked.label
  }
  if (!asked.ready) return first()
  await tell(() => asked.act(form), () => {
    for (const id of ['ask-do', 'ask-pace', 'ask-count']) $(id).hidden = true
    $('ask-close').focus()
  })
})
$('ask').addEventListener('close', () => { if (asker?.isConnected) asker.focus(); else $('main').focus() })

follow()
