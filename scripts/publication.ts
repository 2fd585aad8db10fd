import cliProgress from 'cli-progress'
import { openFile } from '../client/src/file.ts'
import {
  type CreateVideoData,
  type Video,
  type VideoEvent,
  VideoFailedError,
  type VideoGateway,
} from '../client/src/index.ts'

/** Time for the whole processing. */
const timeoutMs = 3_600_000

/**
 * Publishes a file through the gateway's API and reports each step on the standard output.
 * @throws Error, GatewayProblem or VideoFailedError; the slot of a failed upload is deleted again
 */
export async function publishFile(
  gateway: VideoGateway,
  file: string,
  publication: CreateVideoData['body'],
  signal?: AbortSignal,
): Promise<void> {
  const content = await openFile(file)
  const video = await gateway.create(publication, { signal })
  say(
    'Video',
    `${video.id} (${video.platform.name} ${video.platform.videoId ?? 'names it after the upload'})`,
  )
  // The events of this video so far, and the cursor behind them.
  const { items, nextCursor } = await gateway.listEvents({ video: video.id }, { signal })
  for (const event of items) report(event)
  await upload(gateway, video.id, content, signal)
  const { info, thumbnail } = await followUntilReady(gateway, video.id, nextCursor, signal)
  if (info) {
    say('Launch URL', info.launchUrl)
    say('Size', `${info.width} × ${info.height} pixels, ${info.duration} s`)
  }
  if (thumbnail) say('Thumbnail', `${thumbnail.url} (${thumbnail.width} × ${thumbnail.height})`)
}

/** Reports each event as it happens. The gateway is not polled: it sends them. */
async function followUntilReady(
  gateway: VideoGateway,
  id: string,
  after: string,
  signal: AbortSignal | undefined,
): Promise<Video> {
  const end = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])])
  for await (const event of gateway.events({ video: id, after, signal: end })) {
    report(event)
    if (event.data.status === 'ready') return event.data
    if (event.data.status === 'error') throw new VideoFailedError(await gateway.status(id, { signal: end }))
  }
  throw new Error('the events ended before the video was ready')
}

function report({ type, data }: VideoEvent): void {
  const progress = data.progress === null ? '' : `, ${Math.round(data.progress * 100)} %`
  say('Status', `${data.status} (${data.stage}${progress}), event ${type}`)
}

export function say(label: string, text: string): void {
  console.log(`${label.padEnd(17)} ${text}`)
}

async function upload(gateway: VideoGateway, id: string, content: Blob, signal?: AbortSignal): Promise<void> {
  const bar = new cliProgress.SingleBar({
    format: `${'Upload'.padEnd(17)} {bar} {percentage}% of {total} bytes`,
    noTTYOutput: true,
    stream: process.stdout,
    notTTYSchedule: 60_000,
  })
  bar.start(content.size, 0)
  try {
    await gateway.upload(id, content, { onProgress: ({ sent }) => bar.update(sent), signal })
  } catch (error) {
    await gateway.remove(id, { signal: AbortSignal.timeout(5_000) }).catch(() => {})
    throw error
  } finally {
    bar.stop()
  }
}
