import { moveStore, type Progress } from '../src/store/move/move.ts'

/** Copies one store to an empty other one: `npm run move-store -- FROM TO`. Exits with 2 for invalid arguments. */
const usage = `usage: npm run move-store -- FROM TO

FROM and TO are written as DATABASE_URL: sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE?schema=SCHEMA.
Stop every gateway on both first. TO must be empty; a missing file or schema is made. FROM stays as it is.`

const [from, to, ...more] = process.argv.slice(2)
if (from === '--help' || from === '-h') {
  console.log(usage)
} else if (!from || !to || more.length > 0) {
  console.error(usage)
  process.exitCode = 2
} else {
  await run(from, to)
}

async function run(from: string, to: string): Promise<void> {
  const bar = createBar()
  try {
    const { rows, digest } = await moveStore(from, to, bar.show)
    bar.end()
    const moved = Object.entries(rows).map(([what, count]) => `${count} ${what}`)
    console.log(`Moved and verified: ${moved.join(', ')} (SHA-256 ${digest.slice(0, 16)}…)`)
    console.log('Now set DATABASE_URL of every gateway to the new store and start them.')
    console.log('Keep the old store as a backup, and start no gateway on it.')
  } catch (error) {
    bar.end()
    console.error((error as Error).message)
    process.exitCode = 1
  }
}

/** A progress bar in a terminal; elsewhere a line for every tenth. */
function createBar() {
  const { stdout } = process
  const width = 30
  let shown = ''
  return {
    show({ step, done, total }: Progress): void {
      const part = total === 0 ? 1 : Math.min(done / total, 1)
      const tenths = Math.floor(part * 10)
      const next = stdout.isTTY ? `${step} ${Math.floor(part * 100)}` : `${step} ${tenths}`
      if (next === shown) return
      shown = next
      const filled = Math.round(part * width)
      const text = `${step.padEnd(9)} ${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${Math.floor(part * 100)} % of ${total} rows`
      stdout.write(stdout.isTTY ? `\r${text}` : `${text}\n`)
    },
    end(): void {
      if (shown && stdout.isTTY) stdout.write('\n')
    },
  }
}
