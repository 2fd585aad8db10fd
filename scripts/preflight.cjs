/**
 * Loaded before every npm script that runs Node (`node -r`). Says in one line what is missing where an older Node,
 * which cannot read TypeScript, or a package that is not installed would end in a stack trace. CommonJS without any
 * dependency, since nothing else may be there yet.
 */
const { existsSync } = require('node:fs')
const { join } = require('node:path')
const { dependencies } = require('../package.json')

const needed = 26
const complaint = complaintOf(process.versions.node)
if (complaint) {
  console.error(`video-gateway: ${complaint}`)
  process.exit(1)
}

function complaintOf(version) {
  const modules = join(__dirname, '..', 'node_modules')
  const missing = Object.keys(dependencies).filter((name) => !existsSync(join(modules, name)))
  if (missing.length > 0) return 'the dependencies are not installed, or not all of them: run npm ci first'
  if (Number.parseInt(version, 10) < needed)
    return `needs Node ${needed} and this is ${version}: run npm ci, which installs it for the npm scripts`
  return undefined
}
