import cliProgress from 'cli-progress'
import { openFile } from '../client/src/file.ts'
import type { CreateVideoData, VideoGateway } from '../client/src/index.ts'

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
  await upload(gateway, video.id, content, signal)

  let stage = ''
  await gateway.waitUntilReady(video.id, {
    signal,
    onStatus(status) {
      if (status.stage !== stage) say('Status', `${status.status} (${status.stage})`)
      stage = status.stage
    },
  })
  const [info, thumbnail] = await Promise.all([gateway.info(video.id), gateway.thumbnail(video.id)])
  say('Launch URL', info.launchUrl)
  say('Size', `${info.width} × ${info.height} pixels, ${info.duration} s`)
  say('Thumbnail', `${thumbnail.url} (${thumbnail.width} × ${thumbnail.height})`)
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
