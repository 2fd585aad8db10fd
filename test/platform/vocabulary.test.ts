import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { platformDefinitions } from '../../src/platform/registry.ts'

const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, text: readFileSync(join('src', name), 'utf8') }))
const ofVendor = (name: string) =>
  platformDefinitions.some((vendor) => name.startsWith(`platform/${vendor.name}/`))

t.test('a vendor’s terms occur in the vendor’s folder only', async (t) => {
  const words =
    /\b(assets?|asset_id|playback_ids|uploadURL|waitTranscoding|qualities|pctComplete|upload_id)\b/
  const found = sources.filter(({ text }) => words.test(text))
  t.ok(found.length > 3, 'the search finds them')
  for (const { name } of found) t.ok(ofVendor(name), name)
})

t.test('only the registry imports a platform’s files', async (t) => {
  for (const { name: vendor } of platformDefinitions) {
    const imported = new RegExp(`from '[^']*/${vendor}/[^']*'`)
    const users = sources.filter(({ name, text }) => !ofVendor(name) && imported.test(text))
    t.strictSame(
      users.map(({ name }) => name),
      ['platform/registry.ts'],
      vendor,
    )
  }
})
