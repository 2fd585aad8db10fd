import { readFileSync } from 'node:fs'
import t from 'tap'

t.test('every dependency has its reason in docs/dependencies.md', async (t) => {
  const { dependencies, devDependencies } = JSON.parse(readFileSync('package.json', 'utf8'))
  const reasons = readFileSync('docs/dependencies.md', 'utf8')
  for (const name of Object.keys({ ...dependencies, ...devDependencies })) {
    const scope = `\`${name.split('/')[0]}/*\``
    t.ok(reasons.includes(`\`${name}\``) || reasons.includes(scope), name)
  }
})
