import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { fakeMp4, key, startGateway, temporaryDirectory } from '../support/gateway.ts'

/** Runs the command. @returns its status and what it wrote */
async function publish(
  args: string[],
  env: Record<string, string>,
  during: (child: ChildProcess, output: () => string) => void = () => {},
) {
  const child = spawn(process.execPath, ['scripts/publish-video.ts', ...args], {
    env: { PATH: process.env.PATH ?? '', ...env },
  })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk) => {
    out += chunk
    during(child, () => out)
  })
  child.stderr.on('data', (chunk) => {
    err += chunk
  })
  const [status] = await once(child, 'close')
  return { status, out, err }
}

const sample = 'sandbox/sample.mp4'

t.test('a file is published with a progress bar, with a key or as an OAuth client', async (t) => {
  const gateway = await startGateway(t, {
    env: { OAUTH_CLIENTS: `cms:${hashSecret('secret').toString('hex')}` },
  })
  const client = { GATEWAY_CLIENT_ID: 'cms', GATEWAY_CLIENT_SECRET: 'secret' }
  for (const who of [{ GATEWAY_API_KEY: key }, client]) {
    const args = [sample, '--title', 'News', '--reference', 'cms-1', '--description', 'Of the day']
    const { status, out, err } = await publish(args, { GATEWAY_URL: gateway.url, ...who } as never)
    t.strictSame([status, err], [0, ''])
    t.match(out, /100% of 262674 bytes/)
    t.match(out, /Status +ready[\s\S]*Launch URL +http[\s\S]*640 × 360 pixels[\s\S]*Thumbnail +http/)
  }
  const { body } = await gateway.call('GET', '/v1/videos?reference=cms-1')
  t.match(body.items, [{ title: 'News', description: 'Of the day', status: 'ready' }, { status: 'ready' }])
})

t.test('a failure is one line and status 1, and leaves no slot behind', async (t) => {
  const gateway = await startGateway(t)
  const env = { GATEWAY_URL: gateway.url, GATEWAY_API_KEY: key }
  const cases: [string[], Record<string, string>, RegExp][] = [
    [['nowhere.mp4', '--title', 'x'], env, /nowhere\.mp4 cannot be read: there is no such file/],
    [['sandbox', '--title', 'x'], env, /sandbox is a directory: name one MP4 file/],
    [['/dev/null', '--title', 'x'], env, /\/dev\/null is not a regular file/],
    [[sample, '--title', ''], env, /rejected the request: .*\/title .*\(400 invalid-request, request \S+\)/],
    [['README.md', '--title', 'x'], env, /rejected the request: .*not an MP4.*\(415 unsupported-media-type/],
    [
      [sample, '--title', 'x'],
      { ...env, GATEWAY_API_KEY: 'wrong' },
      /rejected the request: .*\(401 unauthorized/,
    ],
    [[sample, '--title', 'x'], { ...env, GATEWAY_URL: 'http://127.0.0.1:1' }, /fetch failed: /],
  ]
  for (const [args, environment, line] of cases) {
    const { status, err } = await publish(args, environment)
    t.equal(status, 1)
    t.match(err, /^Not published: [^\n]+\n$/)
    t.match(err, line)
  }
  t.strictSame((await gateway.call('GET', '/v1/videos')).body.items, [])

  Object.assign(gateway.sandbox.knobs, { fail_processing: { kind: 'broken', text: 'no video in it' } })
  const { status, err } = await publish([sample, '--title', 'x'], env)
  t.equal(status, 1)
  t.match(err, /^Not published: the platform failed: .*\(platform-processing-failed\)\n$/)
})

t.test('invalid usage is one line and status 2', async (t) => {
  const env = { GATEWAY_URL: 'http://127.0.0.1:1', GATEWAY_API_KEY: key }
  for (const [args, environment, line] of [
    [[], env, /^usage: npm run publish-video/],
    [[sample], env, /^usage: /],
    [[sample, 'more', '--title', 'x'], env, /^usage: /],
    [[sample, '--tilte', 'x'], env, /--tilte/],
    [[sample, '--title', 'x'], {}, /^GATEWAY_URL is missing: .*http:\/\/localhost:3000/],
    [
      [sample, '--title', 'x'],
      { ...env, GATEWAY_URL: 'localhost:3000' },
      /^GATEWAY_URL: .*begin with https:/,
    ],
    [[sample, '--title', 'x'], { ...env, GATEWAY_URL: 'http://a:secret@b' }, /^GATEWAY_URL: .*no user/],
    [[sample, '--title', 'x'], { GATEWAY_URL: env.GATEWAY_URL }, /^GATEWAY_API_KEY is missing/],
  ] as [string[], Record<string, string>, RegExp][]) {
    const { status, out, err } = await publish(args, environment)
    t.strictSame([status, out], [2, ''])
    t.match(err, line)
    t.notMatch(err, /secret| {4}at /)
  }
})

t.test('--help prints the usage, with any other arguments', async (t) => {
  for (const args of [['--help'], ['-h'], [sample, '--help', '--title', 'x']]) {
    const { status, out, err } = await publish(args, {})
    t.strictSame([status, err], [0, ''])
    t.match(out, /^usage: npm run publish-video -- FILE[\s\S]*GATEWAY_URL +address of the gateway/)
  }
})

t.test('Ctrl-C aborts the upload, deletes the slot and reports it', async (t) => {
  const gateway = await startGateway(t)
  gateway.sandbox.knobs.read_bytes_per_second = 100_000
  const file = join(await temporaryDirectory(t), 'long.mp4')
  await writeFile(file, fakeMp4(20_000_000))
  const env = { GATEWAY_URL: gateway.url, GATEWAY_API_KEY: key }
  let pressed = false
  const { status, err } = await publish([file, '--title', 'x'], env, (child, output) => {
    if (pressed || !output().includes('Upload')) return
    pressed = child.kill('SIGINT')
  })
  t.strictSame([status, err], [130, 'Not published: interrupted\n'])
  t.strictSame((await gateway.call('GET', '/v1/videos')).body.items, [])
})
