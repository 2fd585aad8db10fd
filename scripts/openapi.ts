/** Writes openapi/openapi.json from the routes; with `--check` it only checks whether it is up to date. */
import { readFileSync, writeFileSync } from 'node:fs'
import { buildApp } from '../src/app.ts'
import { loadConfig } from '../src/config/config.ts'

const file = new URL('../openapi/openapi.json', import.meta.url)
const { server } = await buildApp(loadConfig({ DATABASE_URL: 'memory:' }))
const document = `${JSON.stringify(server.swagger(), null, 2)}\n`
await server.close()

if (!process.argv.includes('--check')) writeFileSync(file, document)
else if (readFileSync(file, 'utf8') !== document) {
  console.error('openapi/openapi.json is out of date: run npm run openapi')
  process.exit(1)
}
