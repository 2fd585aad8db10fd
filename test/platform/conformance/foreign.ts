import type { Test } from 'tap'
import type { Answer } from '../double.ts'
import { leavesOf, record, tamper } from './rewriting.ts'
import { contentOf, type Publication, patient, type Setup, type StartDouble, scenarios } from './setup.ts'

type Items = Record<string, unknown>[]

/** What an adapter makes of videos that are not ours: nothing of them is adopted, read as ours, or removed. */
export function foreignTests(t: Test, start: StartDouble): void {
  const scenario = patient(scenarios(t, start))

  scenario('a list that ignores its filter does not yield a foreign video', async (t, setup) => {
    const { double, platform, failure } = setup
    const [stranger, ours] = [await publish(setup), await publish(setup)]
    const find = (video: Publication) => async () =>
      (await platform.find?.(video.draft, video.call()))?.[0] ?? null
    const found = await find(ours)()
    if (found === null) return t.pass('it has no list to find a slot in')
    const theirList = listIn(await record(double, find(stranger)))!
    const ourList = listIn(await record(double, find(ours)))!
    const our = ourList.items.find((item) => names(item, ours.draft.id))
    if (!our) return t.pass('its list does not say whose the videos are')
    const theirs = theirList.items.filter((item) => !names(item, ours.draft.id))
    const { id } = ours.draft
    const renamed = (other: unknown) =>
      JSON.parse(JSON.stringify(our).replaceAll(JSON.stringify(id), JSON.stringify(other)))

    const lists: [string, Items, boolean][] = [
      ['as it should be', [our], true],
      ['another video alone', theirs, false],
      ['other videos before ours', [...theirs, ...theirs, our], true],
      ['other videos behind ours', [our, ...theirs], true],
      ['ours twice', [our, our], true],
      ['no video', [], false],
      ['the id in upper case', [renamed(id.toUpperCase())], false],
      ['the id with a space', [renamed(`${id} `)], false],
      ['the beginning of the id', [renamed(id.slice(0, -1))], false],
      ['more than the id', [renamed(`${id}0`)], false],
      ['an empty id', [renamed('')], false],
    ]
    for (const [name, items, there] of lists) {
      const slot = await tamper(double, ourList.index, ourList.withItems(items), find(ours))
      t.strictSame(slot, there ? found : null, name)
    }
    for (const other of [null, 5, true, [id], { id }]) {
      const items = [renamed(other)]
      const slot = await tamper(double, ourList.index, ourList.withItems(items), find(ours)).catch(
        (error) => {
          t.equal(error.code, 'platform-protocol-error')
          return null
        },
      )
      t.equal(slot, null, JSON.stringify(other))
    }
    for (const items of [5, 'x', null, {}])
      t.equal(
        (await failure(tamper(double, ourList.index, ourList.withItems(items as never), find(ours)))).code,
        'platform-protocol-error',
      )
    await platform.remove(found, ours.call())
    await t.resolves(platform.status(stranger.slot, stranger.call()), 'the other video is still there')
  })

  scenario('a response about another video is a protocol error', async (t, setup) => {
    const { double, platform } = setup
    const [stranger, ours] = [await publish(setup), await publish(setup)]
    const fresh = { stranger: stranger.slot, ours: ours.slot }
    for (const video of [stranger, ours]) await platform.status(video.slot, video.call())
    const named = [stranger.slot.videoId, stranger.draft.id, ...idsIn(fresh.stranger.handle)]
    const mine = [ours.slot.videoId, ours.draft.id, ...idsIn(fresh.ours.handle)]
    const calls: Record<string, (video: Publication, fresh: Publication['slot']) => Promise<unknown>> = {
      'status, the first': (video, slot) => platform.status(slot, video.call()),
      status: (video) => platform.status(video.slot, video.call()),
      info: (video) => platform.info(video.slot, video.call()),
      thumbnail: (video) => platform.thumbnail(video.slot, video.call()),
    }
    let told = 0
    for (const [name, call] of Object.entries(calls)) {
      const answers = await record(double, () => call(stranger, fresh.stranger))
      for (const [index, { body }] of answers.entries()) {
        if (typeof body !== 'object' || Buffer.isBuffer(body)) continue
        const says = leavesOf(body).some(
          ({ value }) => named.includes(value as string) && !mine.includes(value as string),
        )
        const swapped = tamper(
          double,
          index,
          (answer) => ({ ...answer, body }),
          () => call(ours, fresh.ours),
        )
        if (!says) {
          await swapped
          continue
        }
        told += 1
        await t.rejects(swapped, { code: 'platform-protocol-error' }, `${name}, response ${index}`)
      }
    }
    t.ok(told > 0, 'some of them say whose they are')
    t.not(ours.slot.videoId, stranger.slot.videoId)

    const read = await record(double, () => platform.status(fresh.stranger, stranger.call()))
    let index = 0
    double.rewrite((answer) => {
      const other = answer.operations.includes('status') ? read[index++] : undefined
      return other ? { ...answer, body: other.body } : answer
    })
    await platform.remove(fresh.ours, ours.call()).catch((error) => {
      t.equal(error.code, 'platform-protocol-error')
    })
    double.rewrite()
    await t.resolves(platform.status(stranger.slot, stranger.call()), 'the other video is still there')
  })

  scenario('a creation that returns another video is a protocol error', async (t, setup) => {
    const { double, platform } = setup
    const stranger = setup.publication()
    const answers = await record(double, () => make(stranger))
    for (const [index, { body }] of answers.entries()) {
      const ours = setup.publication()
      if (typeof body !== 'object' || !names(body, stranger.draft.id)) continue
      const swapped = tamper(
        double,
        index,
        (answer) => ({ ...answer, body }),
        () => make(ours),
      )
      await t.rejects(swapped, { code: 'platform-protocol-error' }, `response ${index}`)
      await platform.remove(ours.slot, ours.call()).catch(() => {})
      await t.resolves(platform.status(stranger.slot, stranger.call()), 'the other video is still there')
    }
  })
}

async function publish({ publication }: Setup): Promise<Publication> {
  const video = publication()
  await video.publish()
  return video
}

async function make(video: Publication): Promise<void> {
  await video.provision()
  await video.upload(contentOf(Buffer.from(video.draft.title)))
}

function names(node: unknown, id: string): boolean {
  return leavesOf(node).some(({ value }) => value === id)
}

function idsIn(handle: string | null): string[] {
  return (handle ?? '').split('"')
}

/** The list in the JSON of a response, and the response with other items in it. */
function listIn(answers: Answer[]) {
  for (const [index, { body }] of answers.entries()) {
    const entry = Object.entries((body ?? {}) as object).find(
      ([key, value]) => key !== 'errors' && key !== 'messages' && Array.isArray(value),
    )
    if (!entry) continue
    const [key, items] = entry as [string, Items]
    const withItems = (other: Items) => (answer: Answer) => ({
      ...answer,
      body: { ...(answer.body as object), [key]: other },
    })
    return { index, items, withItems }
  }
  return undefined
}
