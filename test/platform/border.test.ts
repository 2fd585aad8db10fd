import t from 'tap'
import { platformDefinitions } from '../../src/platform/registry.ts'
import { borderTests } from './conformance/border.ts'
import { foreignTests } from './conformance/foreign.ts'

/** The part of the conformance suite with many calls, in a process of its own: the other part measures time-outs. */
for (const { name } of platformDefinitions) {
  const { startDouble } = await import(`./doubles/${name}.ts`)
  t.test(name, { buffered: true }, async (t) => {
    borderTests(t, startDouble)
    foreignTests(t, startDouble)
  })
}
