import { spawnSync } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { validate } from 'dockerfile-utils'
import t from 'tap'
import { parse } from 'yaml'
import { hashSecret } from '../../src/auth/credentials.ts'
import { readConnection } from '../../src/store/postgres/connection.ts'
import type { Json } from '../support/gateway.ts'

const read = (path: string) => readFile(new URL(`../../${path}`, import.meta.url), 'utf8')
const dockerfile = await read('Dockerfile')
const compose: Json = parse(await read('compose.yaml'), { merge: true })

t.test('the Dockerfile passes its linter', async (t) => {
  t.strictSame(
    validate(dockerfile).map(({ message, range }) => `${range.start.line + 1}: ${message}`),
    [],
  )
  t.ok(validate('FROM x\nCMD a\nCMD b\nCOPPY . .').length >= 2, 'which does find mistakes')
})

t.test('the gateway is the default image and has no sandbox', async (t) => {
  const stages = dockerfile.split(/^FROM /m).slice(1)
  const last = stages.at(-1)!
  t.match(last, /^\S+ AS gateway\n/)
  t.notMatch(last, 'COPY sandbox')
  t.match(last, /^USER \d+:\d+$/m)
  t.match(last, /^HEALTHCHECK .*\n? +CMD \["node"/m)
  t.match(last, /^CMD \["node", "src\/server\.ts"\]$/m)
  t.match(await read('.dockerignore'), /^\*$/m, 'only what is named reaches the builder')
})

t.test('compose.yaml matches the Dockerfile and the configuration', async (t) => {
  const { gateway, sandbox, postgres, ...replicas } = compose.services
  const gateways: Json[] = [gateway, ...Object.values(replicas)]
  for (const { build } of [...gateways, sandbox])
    t.match(dockerfile, new RegExp(`^FROM \\S+ AS ${build.target}$`, 'm'))
  for (const { volumes } of [gateway, postgres]) t.ok(volumes[0].split(':')[0] in compose.volumes)
  for (const { environment, network_mode } of gateways) {
    t.equal(environment.API_KEYS, `demo:${hashSecret('vgk_demo').toString('hex')}`)
    t.equal(environment.SANDBOX_BASE_URL, sandbox.environment.PUBLIC_URL)
    t.equal(network_mode, 'service:sandbox')
    const port = environment.PORT ?? 3000
    t.ok(sandbox.ports.includes(`127.0.0.1:${port}:${port}`), `${port} is published`)
  }
  for (const port of sandbox.ports) t.match(port, /^127\.0\.0\.1:/, 'open to this machine alone')
})

t.test('the postgres profile of compose.yaml is complete', async (t) => {
  const { gateway, sandbox, postgres, ...replicas } = compose.services
  t.notOk('profiles' in gateway || 'profiles' in sandbox, 'the trial setup needs no profile')
  t.strictSame(postgres.profiles, ['postgres'])
  t.ok(Object.keys(replicas).length > 1)
  const { POSTGRES_USER: user, POSTGRES_PASSWORD: password } = postgres.environment
  for (const { environment, profiles, depends_on } of Object.values<Json>(replicas)) {
    t.strictSame(profiles, ['postgres'])
    t.match(depends_on, { postgres: { condition: 'service_healthy' } })
    t.ok(postgres.healthcheck.test.includes(`--username=${user}`))
    const url = new URL(environment.DATABASE_URL)
    t.strictSame([url.username, url.password, url.pathname], [user, password, `/${user}`])
    t.equal(readConnection(environment.DATABASE_URL).place, '127.0.0.1:5432/gateway')
    t.equal(environment.PUBLIC_URL, replicas['replica-1'].environment.PUBLIC_URL, 'one gateway')
  }
})

t.test('the production example in compose.yaml is valid YAML', async (t) => {
  const text = await read('compose.yaml')
  const example: Json = parse(text.slice(text.indexOf('# services:')).replaceAll(/^# ?/gm, ''))
  t.equal(example.services.gateway.environment.PLATFORM, 'mux')
})

const shellcheck = spawnSync('shellcheck', ['--version']).status === 0
const skip = shellcheck ? false : 'shellcheck is missing: apt-get install shellcheck'
t.test('the scripts pass shellcheck', { skip }, async (t) => {
  const cwd = new URL('../../deploy/', import.meta.url)
  const scripts = (await readdir(cwd)).filter((name) => name.endsWith('.sh'))
  const { status, stdout } = spawnSync('shellcheck', scripts, { cwd, encoding: 'utf8' })
  t.equal(status, 0, stdout)
})
