import { allScopes, generateSecret, hashSecret, parseCredentials } from '../src/auth/credentials.ts'

const [name, ...scopes] = process.argv.slice(2)
const usage = `usage: npm run apikey -- NAME [scopes], with scopes from ${allScopes.join(', ')}; none = all`

try {
  if (!name || name.startsWith('-')) throw new Error(usage)
  if (/[:,]/.test(name)) throw new Error('the name must contain neither a colon nor a comma')
  const key = generateSecret('vgk_')
  const parts = [name, hashSecret(key).toString('hex')]
  const named = scopes.flatMap((scope) => scope.split(/[+,\s]+/)).filter((scope) => scope !== '')
  const entry = (named.length > 0 ? [...parts, named.join('+')] : parts).join(':')
  // An entry that the gateway would reject at startup is rejected here, by the same rules.
  parseCredentials(entry)
  console.log(`Key, shown this once:  ${key}`)
  console.log(`For the environment:   API_KEYS=${entry}`)
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 2
}
