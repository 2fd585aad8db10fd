import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { problems } from '../../src/errors.ts'

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')

t.test('what is generated is up to date', async (t) => {
  for (const script of ['openapi', 'client', 'configuration']) {
    t.doesNotThrow(
      () => execFileSync(process.execPath, [`scripts/${script}.ts`, '--check'], { stdio: 'pipe' }),
      `if not: npm run ${script}`,
    )
  }
})

t.test('the guide for integrators knows every error', async (t) => {
  const guide = read('docs/integration.md')
  for (const code of Object.keys(problems)) t.ok(guide.includes(`\`${code}\``), code)
})

t.test('every dependency has its reason', async (t) => {
  const { dependencies, devDependencies } = JSON.parse(read('package.json'))
  const reasons = read('docs/dependencies.md')
  for (const name of Object.keys({ ...dependencies, ...devDependencies })) {
    const scope = `\`${name.split('/')[0]}/*\``
    t.ok(reasons.includes(`\`${name}\``) || reasons.includes(scope), name)
  }
})

t.test('the links of the documents lead somewhere', async (t) => {
  for (const document of ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md']) {
    for (const [, target] of read(document).matchAll(/\]\(([^):#]+)\)/g))
      t.doesNotThrow(() => read(target as string), `${document}: ${target}`)
  }
})
