import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'

/**
 * Searches for secrets, by what they are. They are looked for as they are, as in a URL, and within Basic credentials.
 */
export function notIn(t: Test, places: Record<string, string>, secrets: Iterable<[string, string]>): void {
  for (const [name, secret] of secrets)
    for (const [place, text] of Object.entries(places))
      for (const written of [
        secret,
        encodeURIComponent(secret),
        Buffer.from(secret).toString('base64').slice(2, -4),
      ])
        t.notOk(text.includes(written), `${name} is not in: ${place}`)
}

/** Returns the whole contents of a SQLite database, including its write-ahead log. */
export async function databaseText(directory: string, name: string): Promise<string> {
  const files = (await readdir(directory)).filter((file) => file.startsWith(name))
  return (await Promise.all(files.map((file) => readFile(join(directory, file), 'latin1')))).join()
}
