import t from 'tap'
import { platformDefinitions } from '../../src/platform/registry.ts'
import { conformanceTests } from './conformance.ts'

t.jobs = platformDefinitions.length

// A platform without a double in doubles/<name>.ts fails here. All are loaded first, for loading takes others' time.
const doubles = await Promise.all(platformDefinitions.map(({ name }) => import(`./doubles/${name}.ts`)))

for (const [index, { name }] of platformDefinitions.entries()) {
  t.test(name, { buffered: true }, async (t) => conformanceTests(t, doubles[index].startDouble))
}
