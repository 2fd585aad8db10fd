import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { freePort, listens } from './ports.ts'

/** Returns the code of the integration guide below the comment with this name. */
export function codeInGuide(name: string): string {
  const guide = readFileSync('docs/integration.md', 'utf8')
  const [, code] = new RegExp(`<!-- ${name} -->\n\`\`\`\\w+\n(.*?)\`\`\``, 's').exec(guide) ?? []
  if (!code) throw new Error(`the guide has no code named ${name}`)
  return code
}

export interface Program {
  port: number
  child: ChildProcess
  /** Everything it wrote so far. */
  output(): string
  stop(): Promise<void>
}

/** Runs a program that listens on `PORT`, and waits until it does. */
export async function startProgram(
  t: Test,
  path: string,
  env: Record<string, string>,
  port?: number,
): Promise<Program> {
  const bound = port ?? (await freePort())
  const child = spawn(process.execPath, [path], {
    env: { PATH: process.env.PATH ?? '', ...env, PORT: String(bound) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += chunk
    })
  for (const deadline = Date.now() + 20_000; !(await listens(bound)); await sleep(20))
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`it does not listen: ${output}`)
  return {
    port: bound,
    child,
    output: () => output,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await once(child, 'close')
    },
  }
}
