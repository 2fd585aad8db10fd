import { execFileSync, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { key, startGateway, temporaryDirectory } from '../support/gateway.ts'

const root = new URL('../..', import.meta.url).pathname
const env = { PATH: process.env.PATH, HOME: process.env.HOME, npm_config_loglevel: 'error' }

/** What users have in their hands, under the compiler options of a strict project. */
const contents = `
import { createReadStream, openAsBlob, readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import type { Content } from '@video-gateway/client'
const path = 'news.mp4'
export const contents: Content[] = [
  path, new URL('file:///news.mp4'), await openAsBlob(path), readFileSync(path), new Uint8Array(1), new ArrayBuffer(1),
  createReadStream(path), Readable.from([readFileSync(path)]), new Blob([]).stream(),
  { bytes: createReadStream(path), size: 1 }, { bytes: readFileSync(path) },
]
// @ts-expect-error a number is no content
export const wrong: Content = 42
`

t.test('the packed client works with its types in an empty project', async (t) => {
  const { url, call } = await startGateway(t)
  const directory = await temporaryDirectory(t)
  const run = (command: string, ...args: string[]) =>
    // Without what tap loads into processes: TypeScript 7's program cannot stand it.
    execFileSync('env', ['-u', 'NODE_OPTIONS', command, ...args], {
      cwd: directory,
      env,
      encoding: 'utf8',
      stdio: 'pipe',
    })

  const packed = execFileSync('npm', ['pack', './client', '--json', '--pack-destination', directory], {
    cwd: root,
    env,
    encoding: 'utf8',
    stdio: 'pipe',
  })
  const [tarball] = JSON.parse(packed.slice(packed.indexOf('['))) as [
    { filename: string; files: { path: string }[] },
  ]
  t.strictSame(
    tarball.files.map(({ path }) => path).filter((path) => !/^dist\/.*\.(js|d\.ts)$/.test(path)),
    ['LICENSE', 'README.md', 'package.json'],
  )
  run('npm', 'init', '-y')
  run('npm', 'install', '--offline', '--no-audit', '--no-fund', `./${tarball.filename}`)
  t.strictSame(Object.keys(JSON.parse(run('npm', 'ls', '--json')).dependencies), ['@video-gateway/client'])

  // The example of its README, as it stands there.
  const readme = readFileSync(join(root, 'client/README.md'), 'utf8')
  const [, example = ''] = /```ts\n(.*?)```/s.exec(readme) ?? []
  await cp(join(root, 'sandbox/sample.mp4'), join(directory, 'news.mp4'))
  await writeFile(join(directory, 'contents.mts'), contents)
  await writeFile(join(directory, 'publish.mts'), example.replace('https://video-gateway.example', url))
  const compilerOptions = {
    ...{ module: 'nodenext', target: 'esnext', strict: true, exactOptionalPropertyTypes: true },
    ...{ types: ['node'], typeRoots: [join(root, 'node_modules/@types')], outDir: '.' },
  }
  await writeFile(
    join(directory, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, files: ['publish.mts', 'contents.mts'] }),
  )
  run(join(root, 'node_modules/.bin/tsc'), '-p', '.')

  for (const time of ['first', 'second']) {
    const child = spawn(process.execPath, ['publish.mjs'], {
      cwd: directory,
      env: { ...env, GATEWAY_API_KEY: key },
    })
    let output = ''
    child.stdout.on('data', (chunk) => {
      output += chunk
    })
    child.stderr.on('data', (chunk) => {
      output += chunk
    })
    t.equal(await new Promise((resolve) => child.once('close', resolve)), 0, output)
    t.match(output, /http\S+ 5\n$/)
    t.equal(output.includes('262674 of 262674\n'), time === 'first', 'the content is uploaded once')
  }
  const { body } = await call('GET', '/v1/videos')
  t.equal(body.items.length, 1)
})
