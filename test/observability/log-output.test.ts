import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'

/** A gateway whose log cannot be written: it serves on, and ends when it is told to. */
async function start(t: Test, stdout: number | 'pipe') {
  const child = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, 'src/server.ts'], {
    env: { PATH: process.env.PATH, PORT: String(40_000 + (process.pid % 10_000)), HOST: '127.0.0.1' },
    stdio: ['ignore', stdout, 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let errors = ''
  child.stderr!.on('data', (chunk) => {
    errors += chunk
  })
  const url = `http://127.0.0.1:${40_000 + (process.pid % 10_000)}`
  const get = (path: string) => fetch(url + path).then(({ status }) => status)
  for (;;) {
    if (child.exitCode !== null) throw new Error(errors)
    if ((await get('/health/live').catch(() => 0)) === 200) break
    await sleep(50)
  }
  return { child, get }
}

t.test('a full disk loses log lines and nothing else', async (t) => {
  const { child, get } = await start(t, openSync('/dev/full', 'w'))
  for (let count = 0; count < 50; count++) t.equal(await get('/v1/videos'), 401)
  const ended = once(child, 'close')
  child.kill('SIGTERM')
  t.strictSame(await ended, [0, null])
})

t.test('a log pipe that is not read does not block the process', async (t) => {
  const { child, get } = await start(t, 'pipe')
  child.stdout!.pause()
  // More than the pipe and the waiting lines hold.
  for (let count = 0; count < 3_000; count++)
    if ((await get(`/v1/videos?${'x'.repeat(500)}`)) !== 401) t.fail('not served')
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  t.strictSame(await ended, [0, null])
})

t.test('a log pipe whose reader has exited does not end the process', async (t) => {
  const { child, get } = await start(t, 'pipe')
  child.stdout!.destroy()
  for (let count = 0; count < 50; count++) t.equal(await get('/v1/videos'), 401)
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  t.strictSame(await ended, [0, null])
})

t.test('a log pipe that is read late reports the number of lost lines', async (t) => {
  const { child, get } = await start(t, 'pipe')
  child.stdout!.pause()
  for (let count = 0; count < 5_000; count++) await get(`/v1/videos?${'x'.repeat(500)}`)
  let read = ''
  child.stdout!.on('data', (chunk) => {
    read += chunk
  })
  child.stdout!.resume()
  await sleep(200)
  await get('/v1/videos')
  for (const deadline = Date.now() + 5_000; Date.now() < deadline && !/dropped/.test(read); await sleep(50));
  t.match(read, /"lines":\d+,"msg":"log lines were dropped/)
  for (const line of read
    .trim()
    .split('\n')
    .filter((line) => line.startsWith('{')))
    JSON.parse(line)
  child.kill('SIGTERM')
  await once(child, 'exit')
})
