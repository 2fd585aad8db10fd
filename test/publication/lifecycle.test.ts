import fc from 'fast-check'
import t from 'tap'
import { GatewayError } from '../../src/errors.ts'
import { type TransitionName, transition, transitions } from '../../src/publication/lifecycle.ts'
import { type Stage, statusOf } from '../../src/publication/video.ts'
import { aVideo } from '../support/video.ts'

const names = Object.keys(transitions) as TransitionName[]
const stages: Stage[] = [
  'provisioning',
  'awaiting-upload',
  'uploading',
  'processing',
  'ready',
  'failed',
  'deleting',
  'deleted',
]

t.test('each stage allows the transitions of the table and no others', async (t) => {
  for (const name of names) {
    const { from, to } = transitions[name]
    const takes = name === 'upload-started' || name === 'deletion-requested'
    for (const stage of stages) {
      const video = aVideo({ stage, epoch: 4, nextCheckAt: 5, checks: 3 })
      if ((from as readonly Stage[]).includes(stage)) {
        const after = transition(video, name, 1234)
        t.match(
          after,
          { stage: to, stageSince: 1234, epoch: takes ? 5 : 4, nextCheckAt: null, checks: 0 },
          `${name} from ${stage}`,
        )
        t.equal(video.stage, stage, 'the given video is left alone')
      } else {
        t.throws(() => transition(video, name, 1234), GatewayError, `${name} is refused from ${stage}`)
      }
    }
  }
})

t.test('a rejected transition has the error for its stage', async (t) => {
  const code = (stage: Stage) => {
    try {
      transition(aVideo({ stage }), 'upload-started', 0)
    } catch (error) {
      return (error as GatewayError).code
    }
  }
  t.equal(code('uploading'), 'upload-in-progress')
  t.equal(code('processing'), 'content-already-uploaded')
  t.equal(code('ready'), 'content-already-uploaded')
  t.equal(code('failed'), 'content-already-uploaded')
  t.equal(code('deleting'), 'video-deleted')
  t.equal(code('deleted'), 'video-deleted')
  t.equal(code('provisioning'), 'video-not-found')
})

t.test('no transition leaves a final stage', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...names), { maxLength: 40 }), (events) => {
      let video = aVideo({ stage: 'provisioning' })
      for (const event of events) {
        const before = video.stage
        try {
          video = transition(video, event, Date.now())
        } catch (error) {
          if (!(error instanceof GatewayError)) throw error
        }
        if (before === 'deleted' && video.stage !== 'deleted') return false
        if (before === 'deleting' && !['deleting', 'deleted'].includes(video.stage)) return false
        if (before === 'ready' && !['ready', 'failed', 'deleting'].includes(video.stage)) return false
        if (!['pending', 'ready', 'error'].includes(statusOf(video.stage))) return false
      }
      return true
    }),
  )
  t.pass()
})
