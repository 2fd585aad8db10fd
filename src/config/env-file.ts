import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'

/**
 * Reads the file `.env` in the working directory; without one there are no variables.
 * @throws Error when the file exists and cannot be read
 */
export function readEnvFile(): NodeJS.Dict<string> {
  try {
    return parseEnv(readFileSync('.env', 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw new Error('.env: cannot be read', { cause: error })
  }
}
