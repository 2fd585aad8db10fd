/** The gateway as `src/server.ts` starts it, whose hours pass in a tenth of a second. */
const { setInterval } = globalThis
globalThis.setInterval = ((work: () => void, ms: number) =>
  setInterval(work, ms === 3_600_000 ? 100 : ms)) as typeof setInterval

await import('../../src/server.ts')
