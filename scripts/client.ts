/** Writes client/src/generated from openapi/openapi.json; with `--check` it only checks whether they are up to date. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

// The generator requires the compiler's API, which TypeScript 7 no longer has: it gets TypeScript 6.
registerHooks({
  resolve: (specifier, context, next) =>
    next(specifier === 'typescript' ? 'typescript-6' : specifier, context),
})
const { createClient } = await import('@hey-api/openapi-ts')

const committed = fileURLToPath(new URL('../client/src/generated', import.meta.url))
if (!process.argv.includes('--check')) await generate(committed)
else {
  const fresh = mkdtempSync(join(tmpdir(), 'client-'))
  await generate(fresh)
  const same = JSON.stringify(contents(fresh)) === JSON.stringify(contents(committed))
  rmSync(fresh, { recursive: true })
  if (!same) {
    console.error('client/src/generated is out of date: run npm run client')
    process.exit(1)
  }
}

async function generate(path: string): Promise<void> {
  await createClient({
    input: fileURLToPath(new URL('../openapi/openapi.json', import.meta.url)),
    output: { path, importFileExtension: '.ts', entryFile: false },
    plugins: ['@hey-api/typescript'],
    logs: { level: 'silent' },
  })
}

function contents(directory: string): [string, string][] {
  const names = readdirSync(directory).sort()
  return names.map((name) => [name, readFileSync(join(directory, name), 'utf8')])
}
