import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/**
 * Installs packages that one test alone needs, in a directory of its own.
 * @returns why they cannot be installed, undefined when they are; what is wrong with them is thrown
 */
export async function installPackages(directory: string, packages: string[]): Promise<string | undefined> {
  await writeFile(join(directory, 'package.json'), '{ "type": "module" }')
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', '--no-package-lock']
  const env = { ...process.env, NODE_OPTIONS: '', npm_config_fetch_retries: '0' }
  try {
    await run('npm', ['install', ...options, ...packages], { cwd: directory, env, timeout: 120_000 })
    return undefined
  } catch (error) {
    const { killed, stderr = '' } = error as { killed?: boolean; stderr?: string }
    const [unreachable] =
      /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|E40[1347]/.exec(stderr) ?? []
    if (!killed && !unreachable) throw error
    return `the registry cannot be reached (${unreachable ?? 'no answer in two minutes'}): ${packages.join(', ')} are not installed`
  }
}
