import { type StaticDecode, type TObject, Type } from '@sinclair/typebox'
import { requireSigningKey } from '../auth/access-tokens.ts'
import { parseCredentials } from '../auth/credentials.ts'
import { checkSecrets } from '../auth/gateway-secret.ts'
import { type ClaimRules, parseScopeMap } from '../auth/token-claims.ts'
import { list, splitList } from './formats.ts'

export interface IssuerConfig {
  issuerUrl: string
  allowHttp: boolean
  claims: ClaimRules
}

/** The variables for authenticating clients, and for the secret that signs the gateway's own tokens. */
export const callerVariables = {
  GATEWAY_SECRET: Type.Transform(
    Type.String({
      default: '',
      description:
        'at least 32 random bytes, the same for all replicas (`npm run secret` makes them): the gateway derives its keys and the secrets of webhooks from it. Several, comma-separated: the first is used, the others still verify. Outside production a new one is made at startup if it is not set',
    }),
  )
    .Decode((text) => checkSecrets(splitList(text)))
    .Encode(String),
  API_KEYS: credentials(
    'permanent keys: `name:sha256hex[:scope+scope]`, comma-separated; without scopes a key has all of them',
  ),
  OAUTH_CLIENTS: credentials('clients of the token endpoint, in the same form'),
  OAUTH_SIGNING_KEY: Type.Optional(
    Type.Transform(
      Type.String({
        description:
          'private JWK (ES256 or EdDSA) that signs access tokens, the same for all replicas; derived from `GATEWAY_SECRET` by default',
      }),
    )
      .Decode(requireSigningKey)
      .Encode(String),
  ),
  OAUTH_ISSUER: Type.Optional(
    Type.String({
      format: 'base',
      description:
        'external issuer whose access tokens the gateway also accepts, see [identity-providers.md](identity-providers.md)',
    }),
  ),
  OAUTH_AUDIENCE: list('', 'audiences, comma-separated; a token of the issuer must name one of them'),
  OAUTH_AUDIENCE_CLAIM: Type.String({
    default: 'aud',
    description: 'claim that names the audience',
  }),
  OAUTH_SCOPE_CLAIMS: list(
    'scope,scp',
    'claims that hold scopes, comma-separated, such as `roles` or `realm_access.roles`; a token has the scopes of all of them',
  ),
  OAUTH_SCOPE_MAP: Type.Transform(
    Type.String({
      default: '',
      description:
        'scopes that the issuer’s values in these claims grant, `VALUE=scope+scope`, comma-separated: `publisher=videos:read+videos:write`',
    }),
  )
    .Decode((text) => parseScopeMap(splitList(text)))
    .Encode(String),
  OAUTH_ALLOW_HTTP: Type.Union([Type.Literal('true'), Type.Literal('false')], {
    default: 'false',
    description:
      'accepts an `OAUTH_ISSUER` with http elsewhere than on a loopback address; only for networks in which the issuer’s responses cannot be changed',
  }),
}

type Values = StaticDecode<TObject<typeof callerVariables>>

/** Combines the variables of the external issuer, and reports those that do not fit together. */
export function externalIssuer(values: Values, errors: string[]): IssuerConfig | undefined {
  const { OAUTH_ISSUER: issuerUrl, OAUTH_AUDIENCE: audiences } = values
  if (issuerUrl && audiences.length === 0) errors.push('OAUTH_AUDIENCE: is required with OAUTH_ISSUER')
  if (audiences.length > 0 && !issuerUrl) errors.push('OAUTH_ISSUER: is required with OAUTH_AUDIENCE')
  if (issuerUrl?.includes('/.well-known/'))
    errors.push('OAUTH_ISSUER: expected the issuer itself, without /.well-known/ and what follows it')
  if (!issuerUrl || audiences.length === 0) return undefined
  return {
    issuerUrl,
    allowHttp: values.OAUTH_ALLOW_HTTP === 'true',
    claims: {
      audiences,
      audienceClaim: values.OAUTH_AUDIENCE_CLAIM,
      scopeClaims: values.OAUTH_SCOPE_CLAIMS,
      scopeMap: values.OAUTH_SCOPE_MAP,
    },
  }
}

function credentials(description: string) {
  return Type.Transform(Type.String({ default: '', description }))
    .Decode(parseCredentials)
    .Encode(String)
}
