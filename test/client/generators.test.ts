import { execFile } from 'node:child_process'
import { cp, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { key, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { installPackages } from '../support/packages.ts'

const run = promisify(execFile)
/** Without what tap loads into processes: TypeScript 7's program cannot stand it. */
const env = { ...process.env, NODE_OPTIONS: '' }

/** Not among the dependencies: they bring 90 packages, and warnings on an older Node, for this test alone. */
const generators = ['openapi-typescript@7.13.0', 'openapi-fetch@0.17.0', 'orval@8.38.0']

/** What each generator's user writes. All do the same: a video as JSON and its content, then a video as a form. */
const programs = {
  'openapi-typescript': `
import createClient from 'openapi-fetch'
import type { paths } from './openapi-typescript-made.ts'
const client = createClient<paths>({ baseUrl: url, headers: { authorization } })
const created = await client.POST('/v1/videos', { body: { title: 'json', reference: 'a' } })
const path = { id: created.data?.id ?? '' }
const put = await client.PUT('/v1/videos/{id}/content', {
  params: { path }, body: '', bodySerializer: () => file, headers: { 'content-type': 'video/mp4' },
})
const whole = await client.POST('/v1/videos#form', {
  body: { title: 'form', file: '' },
  bodySerializer({ title }) {
    const form = new FormData()
    form.append('title', title)
    form.append('file', file)
    return form
  },
})
const statuses = [created, put, whole].map(({ response }) => response.status)
`,
  orval: `
import { createVideo, createVideoWithContent, putContent } from './orval-made.ts'
const options = { headers: { authorization } }
const created = await createVideo({ title: 'json', reference: 'a' }, options)
const put = created.status === 201 ? await putContent(created.data.id, file, options) : created
const whole = await createVideoWithContent({ title: 'form', file }, options)
const statuses = [created, put, whole].map(({ status }) => status)
`,
  'hey-api': `
import { client } from './hey-api-made/client.gen.ts'
import { createVideo, createVideoWithContent, putContent } from './hey-api-made/sdk.gen.ts'
client.setConfig({ baseUrl: url, headers: { authorization } })
const created = await createVideo({ body: { title: 'json', reference: 'a' } })
const put = await putContent({ path: { id: created.data?.id ?? '' }, body: file })
const whole = await createVideoWithContent({ body: { title: 'form', file } })
const statuses = [created, put, whole].map(({ response }) => response?.status)
`,
}

/** It is among the dependencies; like scripts/client.ts it gets TypeScript 6. */
const heyApi = `
import { registerHooks } from 'node:module'
registerHooks({ resolve: (name, context, next) => next(name === 'typescript' ? 'typescript-6' : name, context) })
const { createClient } = await import(${JSON.stringify(import.meta.resolve('@hey-api/openapi-ts'))})
await createClient({
  input: 'openapi.json',
  output: { path: 'hey-api-made', importFileExtension: '.ts' },
  plugins: ['@hey-api/typescript', '@hey-api/sdk', '@hey-api/client-fetch'],
  logs: { level: 'silent' },
})
`

const directory = await temporaryDirectory(t)
const skip = (await installPackages(directory, generators)) ?? false

t.test('clients generated from the document compile, and their calls succeed', { skip }, async (t) => {
  const gateway = await startGateway(t)
  await generate(gateway.url)
  const head = `
import { readFileSync } from 'node:fs'
const url = ${JSON.stringify(gateway.url)}
const authorization = ${JSON.stringify(`Bearer ${key}`)}
const file = new Blob([readFileSync('video.mp4')], { type: 'video/mp4' })
`
  for (const [name, program] of Object.entries(programs))
    await writeFile(join(directory, `${name}.ts`), `${head}${program}console.log(JSON.stringify(statuses))\n`)
  const compilerOptions = {
    ...{ module: 'nodenext', target: 'esnext', lib: ['esnext', 'dom', 'dom.iterable'], strict: true },
    ...{ noEmit: true, allowImportingTsExtensions: true, skipLibCheck: true },
    ...{ types: ['node'], typeRoots: [resolve('node_modules/@types')] },
  }
  const files = Object.keys(programs).map((name) => `${name}.ts`)
  await writeFile(join(directory, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
  const { stdout: complaints } = await run(resolve('node_modules/.bin/tsc'), ['-p', '.'], {
    cwd: directory,
    env,
  }).catch((error) => error)
  t.equal(complaints, '')

  for (const file of files) {
    const { stdout, stderr } = await run(process.execPath, [file], { cwd: directory, env }).catch(
      (error) => error,
    )
    t.equal(stdout, '[201,204,201]\n', `${file} ${stderr}`)
  }
  const { body } = await gateway.call('GET', '/v1/videos')
  t.strictSame(
    body.items.map(({ title }: { title: string }) => title),
    files.flatMap(() => ['form', 'json']),
  )
})

async function generate(url: string): Promise<void> {
  const bin = (name: string, path: string) => join(directory, 'node_modules', name, path)
  await cp('openapi/openapi.json', join(directory, 'openapi.json'))
  await cp('sandbox/sample.mp4', join(directory, 'video.mp4'))
  const orval = {
    gateway: {
      input: './openapi.json',
      output: { target: './orval-made.ts', client: 'fetch', baseUrl: url },
    },
  }
  await writeFile(join(directory, 'orval.config.mjs'), `export default ${JSON.stringify(orval)}`)
  const settings = { cwd: directory, env }
  await run(
    process.execPath,
    [bin('openapi-typescript', 'bin/cli.js'), 'openapi.json', '-o', 'openapi-typescript-made.ts'],
    settings,
  )
  await run(process.execPath, [bin('orval', 'dist/bin/orval.mjs')], settings)
  await writeFile(join(directory, 'hey-api.mjs'), heyApi)
  await run(process.execPath, ['hey-api.mjs'], settings)
}
