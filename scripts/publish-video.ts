/**
 * Publishes a file through a running gateway, with a progress bar; `--help` shows its usage.
 * Exits with 0 when the video is ready, 1 when it is not, 2 for invalid arguments, 130 after Ctrl-C.
 */
import { parseArgs } from 'node:util'
import { clientCredentials, GatewayProblem, VideoFailedError, VideoGateway } from '../client/src/index.ts'
import { publishFile } from './publication.ts'

const usage =
  'usage: npm run publish-video -- FILE --title TITLE [--description …] [--reference …] [--platform …]'
const help = `${usage}

Publishes the MP4 file FILE through a running gateway and waits until the video is ready.

  --title TITLE     title of the video, required
  --description …   its description
  --reference …     your own id for it
  --platform …      the platform to publish on; the gateway's default if absent

Environment:
  GATEWAY_URL       address of the gateway, such as http://localhost:3000
  GATEWAY_API_KEY   an API key; or, of an OAuth2 client,
  GATEWAY_CLIENT_ID, GATEWAY_CLIENT_SECRET

Exit status: 0 the video is ready, 1 it is not, 2 the call was wrong, 130 after Ctrl-C.`
const interrupted = new AbortController()
process.once('SIGINT', () => interrupted.abort(new Error('interrupted')))

const [file, publication] = orEnd(2, readArguments)
const gateway = orEnd(2, readEnvironment)
try {
  await publishFile(gateway, file, publication, interrupted.signal)
} catch (error) {
  end(interrupted.signal.aborted ? 130 : 1, explain(error))
}

function readArguments() {
  const text = { type: 'string' } as const
  const { values, positionals } = parseArgs({
    options: {
      title: text,
      description: text,
      reference: text,
      platform: text,
      help: { type: 'boolean', short: 'h' },
    },
    allowPositionals: true,
  })
  if (values.help) {
    console.log(help)
    process.exit(0)
  }
  const [file, ...more] = positionals
  const { title, help: _, ...rest } = values
  if (!file || more.length > 0 || title === undefined) throw new Error(`${usage}\n(--help says more)`)
  return [file, { title, ...rest }] as const
}

function readEnvironment(): VideoGateway {
  const { GATEWAY_URL: url, GATEWAY_API_KEY: key } = process.env
  const { GATEWAY_CLIENT_ID: clientId, GATEWAY_CLIENT_SECRET: clientSecret } = process.env
  if (!url)
    throw new Error(
      'GATEWAY_URL is missing: set it to the address of the gateway, such as http://localhost:3000',
    )
  if (!key && !(clientId && clientSecret))
    throw new Error('GATEWAY_API_KEY is missing: set it, or GATEWAY_CLIENT_ID and GATEWAY_CLIENT_SECRET')
  try {
    const token =
      key || clientCredentials({ url, clientId: clientId ?? '', clientSecret: clientSecret ?? '' })
    return new VideoGateway({ url, token })
  } catch (error) {
    throw new Error(`GATEWAY_URL: ${(error as Error).message}`)
  }
}

/** Returns one line for the user. */
function explain(error: unknown): string {
  if (error instanceof GatewayProblem) {
    return `the gateway rejected the request: ${error.message} (${error.status} ${error.code}, request ${error.requestId})`
  }
  if (error instanceof VideoFailedError) return `the platform failed: ${error.message} (${error.code})`
  const { message, cause } = error as Error & { cause?: { code?: string; message?: string } }
  return `${message}${cause ? `: ${cause.code ?? cause.message}` : ''}`
}

function orEnd<T>(status: number, read: () => T): T {
  try {
    return read()
  } catch (error) {
    return end(status, (error as Error).message)
  }
}

function end(status: number, line: string): never {
  console.error(status === 2 ? line : `Not published: ${line}`)
  process.exit(status)
}
