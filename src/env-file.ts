import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'

/** A variable and its value, which in quotes may have several lines. */
const assignment = /^[ \t]*(?:export[ \t]+)?[\w.-]+[ \t]*=[ \t]*(?:(["'`])[\s\S]*?\1.*|.*)$/gm

/**
 * Takes what the environment does not have from the file `.env` in the working directory, if there is one. Node's own
 * `process.loadEnvFile` says of a file it may not read that there is none, and passes over lines it cannot read.
 * @throws Error with one line that says what is wrong with the file
 */
export function loadEnvFile(): void {
  let text: string
  try {
    text = readFileSync('.env', 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return
    throw new Error(`.env: cannot be read (${code})`)
  }
  const rest = text.replace(assignment, (lines) => lines.replaceAll(/[^\n]/g, '')).split('\n')
  const wrong = rest.findIndex((line) => !/^\s*(#.*)?\s*$/.test(line))
  if (wrong !== -1) throw new Error(`.env: line ${wrong + 1} is no NAME=value`)
  for (const [name, value] of Object.entries(parseEnv(text))) process.env[name] ??= value
}
