import { randomBytes } from 'node:crypto'
import type { Exchange } from '../double.ts'
import { problem, problemType } from './peertube-uploads.ts'

export const account = { username: 'root', password: 'the password of the suite' }
export const client = { id: randomBytes(16).toString('hex'), secret: randomBytes(16).toString('hex') }

/** The token endpoint of PeerTube's double. */
export function createTokens(wrong: (complaint: string) => void) {
  const tokens = new Set<string>()
  /** With the access token that each was given with. */
  const refreshTokens = new Map<string, string>()
  const issued: string[] = []

  async function give(exchange: Exchange) {
    const { bytes } = await exchange.body()
    const form = new URLSearchParams(bytes.toString())
    if (exchange.headers.authorization) wrong('a token is asked for with an Authorization header')
    if (!exchange.headers['content-type']?.startsWith('application/x-www-form-urlencoded'))
      wrong('a token is not asked for with a form')
    if (form.get('client_id') !== client.id || form.get('client_secret') !== client.secret)
      return exchange.answer(400, problem(400, 'invalid_client'), problemType)
    const type = form.get('grant_type')
    if (type !== 'password' && type !== 'refresh_token') wrong(`grant type ${type}`)
    const spent = form.get('refresh_token') ?? ''
    const granted =
      type === 'password'
        ? form.get('username') === account.username && form.get('password') === account.password
        : refreshTokens.has(spent)
    if (!granted) return exchange.answer(400, problem(400, 'invalid_grant'), problemType)
    const [token, refresh] = [randomBytes(20).toString('hex'), randomBytes(20).toString('hex')]
    // A renewal ends both tokens of the pair before, at once.
    tokens.delete(`Bearer ${refreshTokens.get(spent)}`)
    refreshTokens.delete(spent)
    tokens.add(`Bearer ${token}`)
    refreshTokens.set(refresh, token)
    issued.push(token, refresh)
    exchange.answer(200, {
      token_type: 'Bearer',
      access_token: token,
      refresh_token: refresh,
      expires_in: 86_399,
      refresh_token_expires_in: 1_209_599,
    })
  }

  return {
    give,
    valid: (authorization: string | undefined) => tokens.has(authorization ?? ''),
    revoke: () => tokens.clear(),
    secrets: () => [account.password, client.secret, ...issued],
  }
}
