import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer, text } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { temporaryDirectory } from './support/gateway.ts'

const locked = JSON.parse(readFileSync('package-lock.json', 'utf8')).packages
const name = 'close-with-grace'
const { version } = locked[`node_modules/${name}`]
const advisory = {
  id: 1,
  url: 'https://advisories.example/1',
  title: 'Ends without grace',
  severity: 'high',
  vulnerable_versions: `<=${version}`,
  cwe: [],
  cvss: { score: 7.5, vectorString: null },
}

/** A registry that has these advisories; without any it offers no audits. */
async function startRegistry(t: Test, advisories?: object) {
  const audited = new Set<string>()
  const server = createServer(async (request, response) => {
    const body = await buffer(request)
    const answer = (status: number, json: object) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(json))
    }
    if (request.url === `/${name}`) {
      const packument = { name, 'dist-tags': { latest: version }, versions: { [version]: { name, version } } }
      return answer(200, packument)
    }
    if (request.url !== '/-/npm/v1/security/advisories/bulk' || !advisories) return answer(405, {})
    const asked = request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body
    for (const dependency of Object.keys(JSON.parse(asked.toString()))) audited.add(dependency)
    answer(200, advisories)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, audited, server }
}

async function audit(t: Test, registry: string) {
  const directory = await temporaryDirectory(t)
  const script = spawn(process.execPath, ['scripts/audit.ts'], {
    env: {
      PATH: process.env.PATH,
      HOME: directory,
      npm_config_cache: directory,
      npm_config_registry: registry,
      npm_config_fetch_retries: '0',
    },
  })
  const [output, errors, [status]] = await Promise.all([
    text(script.stdout),
    text(script.stderr),
    once(script, 'close'),
  ])
  return { status, output, errors }
}

t.test('the audit passes without known vulnerabilities', async (t) => {
  const registry = await startRegistry(t, {})
  const { status, output } = await audit(t, registry.url)
  t.equal(output, 'audit: no known vulnerabilities\n')
  t.equal(status, 0)
  t.ok(
    registry.audited.has(name) && registry.audited.has('fastify'),
    'the registry was asked for what is locked',
  )
})

t.test('a vulnerability fails the audit, in a report of any length', async (t) => {
  for (const title of [advisory.title, 'x'.repeat(2_000_000)]) {
    const registry = await startRegistry(t, { [name]: [{ ...advisory, title }] })
    const { status, errors } = await audit(t, registry.url)
    t.match(errors, new RegExp(`^audit: high: ${name} .*\naudit: 1 known vulnerabilities\n$`))
    t.equal(status, 1)
  }
})

t.test('a registry that is unreachable or offers no audits is reported in one line', async (t) => {
  const { url, server } = await startRegistry(t)
  const refusing = await audit(t, url)
  t.match(refusing.output, /^audit: not done, the registry does not offer it \(.*405.*\)\n$/)
  t.equal(refusing.status, 0)
  server.close()
  server.closeAllConnections()
  const silent = await audit(t, url)
  t.match(silent.output, /^audit: not done, the registry does not offer it \(.+\)\n$/)
  t.equal(silent.status, 0)
})
