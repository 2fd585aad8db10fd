import t from 'tap'
import { platformDefinitions } from '../../src/platform/registry.ts'
import { conformanceTests } from './conformance.ts'

t.jobs = platformDefinitions.length

// A platform without a double in doubles/<name>.ts fails here.
for (const { name } of platformDefinitions) {
  t.test(name, { buffered: true }, async (t) => {
    const { startDouble } = await import(`./doubles/${name}.ts`)
    conformanceTests(t, startDouble)
  })
}
