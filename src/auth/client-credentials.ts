import OAuth2Server from '@node-oauth/oauth2-server'
import type { TokenIssuer } from './access-tokens.ts'
import { type Credential, findByName, knownScopes, type Scope } from './credentials.ts'

/** Body of a successful response, RFC 6749 §5.1. */
export interface TokenResponse {
  access_token: string
  token_type: 'Bearer'
  expires_in: number
  scope: string
}

/** Parameters of the form, RFC 6749 §4.4.2 and §2.3.1. */
export interface TokenRequest {
  grant_type?: string
  scope?: string
  client_id?: string
  client_secret?: string
}

/** Throws OAuthError, whose `name` is the error code of RFC 6749 §5.2. */
export type TokenGrant = (authorization: string | undefined, form: TokenRequest) => Promise<TokenResponse>

const { InvalidClientError, InvalidRequestError, UnsupportedGrantTypeError } = OAuth2Server

/** The client credentials grant, RFC 6749 §4.4: a configured client gets an access token for its scopes. */
export function createTokenGrant(issuer: TokenIssuer, clients: Credential[]): TokenGrant {
  const server = new OAuth2Server({
    model: createModel(issuer, clients),
    accessTokenLifetime: issuer.lifetimeSeconds,
  })

  return async (authorization, form) => {
    // The library would authenticate its other grants by rules of their own (PKCE clients have no secret).
    if (form.grant_type && form.grant_type !== 'client_credentials') {
      throw new UnsupportedGrantTypeError('Use grant_type=client_credentials')
    }
    const { accessToken, scope } = await server.token(
      new OAuth2Server.Request({
        method: 'POST',
        query: {},
        headers: { 'content-type': 'application/x-www-form-urlencoded', 'transfer-encoding': 'chunked' },
        // An empty parameter counts as omitted, RFC 6749 §3.2.
        body: {
          grant_type: form.grant_type || undefined,
          scope: form.scope || undefined,
          ...clientOf(authorization, form),
        },
      }),
      new OAuth2Server.Response(),
    )
    return {
      access_token: accessToken,
      token_type: 'Bearer',
      expires_in: issuer.lifetimeSeconds,
      scope: (scope ?? []).join(' '),
    }
  }
}

function createModel(issuer: TokenIssuer, clients: Credential[]): OAuth2Server.ClientCredentialsModel {
  return {
    async getClient(id, secret) {
      const client = findByName(clients, id, secret)
      return client && { id: client.name, grants: ['client_credentials'], scopes: client.scopes }
    },
    getUserFromClient: async (client) => client,
    async validateScope(_user, client, requested) {
      if (!requested) return client.scopes
      const scopes = knownScopes(requested).filter((scope) => client.scopes.includes(scope))
      return scopes.length === new Set(requested).size && scopes
    },
    async generateAccessToken(client, _user, scopes) {
      const { token } = await issuer.sign({ client: client.id, scopes: scopes as Scope[] })
      return token
    },
    // Tokens verify by their signature: nothing has to be stored or looked up.
    saveToken: async (token, client, user) => ({ ...token, client, user }),
    getAccessToken: async () => undefined,
  }
}

type ClientPair = Pick<TokenRequest, 'client_id' | 'client_secret'>

/** Reads the client from HTTP Basic or the form, not both (RFC 6749 §2.3). A client_id that repeats Basic's is fine. */
function clientOf(authorization: string | undefined, form: TokenRequest): ClientPair {
  if (authorization === undefined)
    return { client_id: form.client_id, client_secret: form.client_secret } as ClientPair
  const client = decodeBasic(authorization)
  if (form.client_secret || (form.client_id && form.client_id !== client.client_id)) {
    throw new InvalidRequestError('Authenticate with HTTP Basic or in the form, not with both')
  }
  return client
}

/** RFC 6749 §2.3.1: both halves are form-urlencoded before RFC 7617 joins them. */
function decodeBasic(authorization: string): ClientPair {
  try {
    const encoded = /^basic +([\w\-+/]+=*)$/i.exec(authorization)?.[1] ?? ''
    const [, id = '', secret = ''] = /^([^:]*):(.*)$/s.exec(Buffer.from(encoded, 'base64').toString()) ?? []
    return { client_id: formDecode(id), client_secret: formDecode(secret) }
  } catch (error) {
    throw new InvalidClientError(error as Error)
  }
}

function formDecode(text: string): string {
  return decodeURIComponent(text.replaceAll('+', ' '))
}
