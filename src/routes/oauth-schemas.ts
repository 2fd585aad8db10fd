import { Type } from '@fastify/type-provider-typebox'
import { FormatRegistry } from '@sinclair/typebox'
import { allScopes } from '../auth/credentials.ts'
import { exampleOrigin } from './schemas.ts'

// A hint for whoever shows the form; TypeBox refuses values of formats that it does not know.
FormatRegistry.Set('password', () => true)

const common = { tags: ['Access tokens'], security: [] }

const oauthError = (description: string, error: string, errorDescription: string) =>
  Type.Object(
    {
      error: Type.String({ description: 'Error code of RFC 6749 §5.2' }),
      error_description: Type.String({ description: 'For the developer of the client, in English' }),
    },
    { description, examples: [{ error, error_description: errorDescription }] },
  )

export const tokenSchema = {
  ...common,
  operationId: 'createAccessToken',
  summary: 'Create an access token',
  description:
    'Implements the client credentials grant (RFC 6749 §4.4). Authenticate with HTTP Basic (`client_secret_basic`) or with `client_id` and `client_secret` in the form (`client_secret_post`), not with both. Send the token as `Authorization: Bearer TOKEN` until it expires, then create a new one.',
  consumes: ['application/x-www-form-urlencoded'],
  body: Type.Object(
    {
      grant_type: Type.String({
        description: 'Always `client_credentials`.',
        examples: ['client_credentials'],
      }),
      scope: Type.Optional(
        Type.String({
          description: 'Scopes separated by spaces; without it, all that the client may have.',
          examples: ['videos:read videos:write'],
        }),
      ),
      client_id: Type.Optional(Type.String({ description: 'Only without HTTP Basic.' })),
      client_secret: Type.Optional(
        Type.String({ description: 'Only without HTTP Basic.', format: 'password' }),
      ),
    },
    { examples: [{ grant_type: 'client_credentials', scope: 'videos:read videos:write' }] },
  ),
  response: {
    200: Type.Object(
      {
        access_token: Type.String({ description: 'A JWT of the profile of RFC 9068' }),
        token_type: Type.Literal('Bearer'),
        expires_in: Type.Integer({ description: 'Lifetime in seconds' }),
        scope: Type.String({ description: 'The scopes granted, separated by spaces' }),
      },
      {
        description: 'The access token',
        examples: [
          {
            access_token: 'eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJpc3MiOiJodHRwczovL2cifQ.c2lnbmF0dXJl',
            token_type: 'Bearer',
            expires_in: 900,
            scope: 'videos:read videos:write',
          },
        ],
      },
    ),
    400: oauthError(
      'The request is not valid: `invalid_request`, `invalid_scope` or `unsupported_grant_type`',
      'invalid_scope',
      'Invalid scope: Requested scope is invalid',
    ),
    401: oauthError(
      'The client is unknown or its secret is wrong',
      'invalid_client',
      'Client authentication failed',
    ),
    429: oauthError(
      'Too many attempts from this address; `Retry-After` says when to try again',
      'temporarily_unavailable',
      'Try again later',
    ),
  },
}

export const metadataSchema = {
  ...common,
  operationId: 'getAuthorizationServerMetadata',
  summary: 'Retrieve the authorization server metadata',
  description: 'Returns the RFC 8414 metadata from which client libraries find the token endpoint.',
  response: {
    200: Type.Object(
      {
        issuer: Type.String({ description: 'The `iss` and the `aud` of the access tokens' }),
        token_endpoint: Type.String(),
        jwks_uri: Type.String(),
        scopes_supported: Type.Array(Type.String()),
        response_types_supported: Type.Array(Type.String()),
        grant_types_supported: Type.Array(Type.String()),
        token_endpoint_auth_methods_supported: Type.Array(Type.String()),
        service_documentation: Type.String(),
      },
      {
        description: 'The metadata',
        examples: [
          {
            issuer: exampleOrigin,
            token_endpoint: `${exampleOrigin}/oauth2/token`,
            jwks_uri: `${exampleOrigin}/.well-known/jwks.json`,
            scopes_supported: [...allScopes],
            response_types_supported: [],
            grant_types_supported: ['client_credentials'],
            token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
            service_documentation: `${exampleOrigin}/docs`,
          },
        ],
      },
    ),
  },
}

export const jwksSchema = {
  ...common,
  operationId: 'getJsonWebKeySet',
  summary: 'List the public signing keys',
  description: 'Returns the JSON Web Key Set (RFC 7517) that verifies the gateway’s access tokens.',
  response: {
    200: Type.Object(
      {
        keys: Type.Array(
          Type.Object({
            kty: Type.String(),
            crv: Type.String(),
            x: Type.String(),
            y: Type.Optional(Type.String({ description: 'Only with `kty` `EC`' })),
            kid: Type.String({ description: 'Thumbprint of RFC 7638' }),
            alg: Type.String(),
            use: Type.Literal('sig'),
          }),
        ),
      },
      {
        description: 'The keys',
        examples: [
          {
            keys: [
              {
                kty: 'EC',
                crv: 'P-256',
                x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
                y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
                kid: 'oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U',
                alg: 'ES256',
                use: 'sig',
              },
            ],
          },
        ],
      },
    ),
  },
}
