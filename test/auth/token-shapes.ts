import type { JWTPayload } from 'jose'
import { audience } from './issuer-double.ts'

/** What is expected of a token: its scopes (without `videos:read`: 403), or that it is refused (401). */
export interface TokenShape {
  what: string
  header?: object
  payload: JWTPayload
  name?: string
  scopes: string[] | 'refused'
}

export interface Provider {
  name: string
  /** Path of the issuer identifier, with the slash that the provider puts at its end. */
  path: string
  /** As in docs/identity-providers.md. */
  env: Record<string, string>
  header: object
  tokens: TokenShape[]
}

const [read, write] = ['videos:read', 'videos:write']
const tenant = '72f988bf-86f1-41af-91ab-2d7cd011db47'
const app = '6731de76-14a6-49ae-97bc-6eba6914391e'
const client = '11112222-bbbb-3333-cccc-4444dddd5555'

/** The tokens of each provider, as it issues them, without what the gateway does not read (names, session, scopes of others). */
export const providers: Provider[] = [
  {
    name: 'Keycloak: audience mapper and client scopes',
    path: '/realms/video',
    env: { OAUTH_AUDIENCE: 'video-gateway' },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'service account',
        payload: {
          jti: 'trrtcc:7cc4',
          aud: ['video-gateway', 'account'],
          sub: 'd31b3f27-8a42-4e73-9b3a-0e3f0f3c1b5a',
          typ: 'Bearer',
          azp: 'back-office',
          acr: '1',
          realm_access: { roles: ['offline_access', 'default-roles-video'] },
          resource_access: { account: { roles: ['manage-account'] } },
          scope: 'email profile videos:read videos:write',
          clientHost: '10.0.0.7',
          preferred_username: 'service-account-back-office',
          client_id: 'back-office',
        },
        name: 'back-office',
        scopes: [read, write],
      },
      {
        what: 'user, before version 24: the nonce is in every token',
        payload: { aud: 'video-gateway', sub: 'u', typ: 'Bearer', azp: 'web', nonce: 'n', scope: read },
        name: 'web',
        scopes: [read],
      },
      {
        what: 'no mapper',
        payload: { aud: 'account', typ: 'Bearer', azp: 'web', scope: read },
        scopes: 'refused',
      },
      {
        what: 'refresh token',
        payload: { aud: 'video-gateway', typ: 'Refresh', azp: 'web', scope: read },
        scopes: 'refused',
      },
      {
        what: 'offline token',
        payload: { aud: 'video-gateway', typ: 'Offline', azp: 'web', scope: read },
        scopes: 'refused',
      },
      {
        what: 'ID token',
        payload: { aud: 'video-gateway', typ: 'ID', azp: 'video-gateway', at_hash: 'x', scope: read },
        scopes: 'refused',
      },
      {
        what: 'logout token',
        header: { typ: 'logout+jwt' },
        payload: { aud: 'video-gateway', typ: 'Logout', events: {}, scope: read, azp: 'web' },
        scopes: 'refused',
      },
    ],
  },
  {
    name: 'Keycloak: roles of the realm and of a client',
    path: '/realms/video',
    env: {
      OAUTH_AUDIENCE: 'video.gateway',
      OAUTH_SCOPE_CLAIMS: 'realm_access.roles,resource_access.video.gateway.roles',
      OAUTH_SCOPE_MAP:
        'Video Editor=videos:read+videos:write,video-admin=videos:read+videos:write+videos:delete',
    },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'realm role with a space, by the map',
        payload: {
          aud: 'video.gateway',
          typ: 'Bearer',
          azp: 'cms',
          realm_access: { roles: ['uma_authorization', 'Video Editor'] },
          scope: 'email',
        },
        name: 'cms',
        scopes: [read, write],
      },
      {
        what: 'role of a client whose name has a dot, named like a scope',
        payload: {
          aud: 'video.gateway',
          typ: 'Bearer',
          azp: 'cms',
          resource_access: { 'video.gateway': { roles: [read] }, other: { roles: ['video-admin'] } },
        },
        name: 'cms',
        scopes: [read],
      },
      {
        what: 'both',
        payload: {
          aud: 'video.gateway',
          typ: 'Bearer',
          azp: 'cms',
          realm_access: { roles: [read] },
          resource_access: { 'video.gateway': { roles: ['video-admin'] } },
        },
        name: 'cms',
        scopes: [read, write, 'videos:delete'],
      },
      {
        what: 'scopes are not asked for',
        payload: { aud: 'video.gateway', typ: 'Bearer', azp: 'cms', scope: read },
        scopes: [],
      },
      {
        what: 'roles of unexpected types',
        payload: {
          aud: 'video.gateway',
          azp: 'cms',
          typ: 'Bearer',
          realm_access: { roles: [{ 'videos:read': true }, 1, null, [read]] },
          resource_access: 'video.gateway.roles',
        },
        scopes: [],
      },
    ],
  },
  {
    name: 'Auth0: scopes',
    path: '/',
    env: { OAUTH_AUDIENCE: audience },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'machine to machine',
        payload: {
          sub: 'aBcD1234@clients',
          aud: audience,
          azp: 'aBcD1234',
          scope: 'videos:read videos:write',
          gty: 'client-credentials',
        },
        name: 'aBcD1234',
        scopes: [read, write],
      },
      {
        what: 'user, with the audience of userinfo',
        payload: {
          sub: 'auth0|65',
          aud: [audience, 'https://tenant.eu.auth0.com/userinfo'],
          azp: 'web',
          scope: 'openid profile videos:read',
        },
        name: 'web',
        scopes: [read],
      },
      {
        what: 'profile of RFC 9068',
        header: { typ: 'at+jwt' },
        payload: { sub: 'auth0|65', aud: audience, client_id: 'web', scope: read, jti: 'x' },
        name: 'web',
        scopes: [read],
      },
      {
        what: 'ID token',
        payload: { sub: 'auth0|65', aud: audience, nonce: 'x', sid: 's' },
        scopes: 'refused',
      },
    ],
  },
  {
    name: 'Auth0: permissions (RBAC), and namespaced claims',
    path: '/',
    env: {
      OAUTH_AUDIENCE: audience,
      OAUTH_SCOPE_CLAIMS: 'permissions,https://cms.example/roles',
      OAUTH_SCOPE_MAP:
        'read:videos=videos:read, create:videos = videos:write , editor=videos:read+videos:write',
    },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'permissions in the words of Auth0',
        payload: {
          sub: 'auth0|65',
          aud: audience,
          azp: 'web',
          scope: 'openid',
          permissions: ['read:videos'],
        },
        name: 'web',
        scopes: [read],
      },
      {
        what: 'permissions named like scopes, and others',
        payload: { sub: 'a@clients', aud: audience, azp: 'a', permissions: [read, 'create:videos', 'x', 1] },
        name: 'a',
        scopes: [read, write],
      },
      {
        what: 'a claim of an action',
        payload: { sub: 'auth0|65', aud: audience, azp: 'web', 'https://cms.example/roles': ['editor'] },
        name: 'web',
        scopes: [read, write],
      },
      {
        what: 'what the user asked for and may not',
        payload: { sub: 'auth0|65', aud: audience, azp: 'web', scope: 'videos:read', permissions: [] },
        scopes: [],
      },
    ],
  },
  {
    name: 'Okta',
    path: '/oauth2/default',
    env: { OAUTH_AUDIENCE: 'api://default' },
    header: {},
    tokens: [
      {
        what: 'client credentials',
        payload: {
          ver: 1,
          jti: 'AT.0mP',
          aud: 'api://default',
          cid: '0oa1gjh63g214q0Hq0g4',
          scp: [read, write],
          sub: '0oa1gjh63g214q0Hq0g4',
        },
        name: '0oa1gjh63g214q0Hq0g4',
        scopes: [read, write],
      },
      {
        what: 'user',
        payload: {
          ver: 1,
          aud: 'api://default',
          cid: 'web',
          uid: '00u',
          scp: ['openid', read],
          sub: 'a@b.example',
        },
        name: 'web',
        scopes: [read],
      },
      {
        what: 'token of the organization’s server, which is opaque by contract',
        header: { typ: 'application/okta-internal-at+jwt' },
        payload: { ver: 1, aud: 'api://default', cid: 'web', scp: [read], sub: 'a@b.example' },
        scopes: 'refused',
      },
      {
        what: 'ID token',
        payload: { ver: 1, aud: 'api://default', sub: '00u', idp: '00o', amr: ['pwd'], at_hash: 'x' },
        scopes: 'refused',
      },
    ],
  },
  {
    name: 'Entra ID: delegated, version 2',
    path: `/${tenant}/v2.0`,
    env: { OAUTH_AUDIENCE: app },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'user',
        payload: {
          aud: app,
          azp: client,
          azpacr: '0',
          scp: 'videos:read videos:write',
          sub: 's',
          tid: tenant,
          ver: '2.0',
        },
        name: client,
        scopes: [read, write],
      },
      {
        what: 'for another API',
        payload: {
          aud: '00000003-0000-0000-c000-000000000000',
          azp: client,
          scp: read,
          sub: 's',
          ver: '2.0',
        },
        scopes: 'refused',
      },
      {
        what: 'ID token of the same registration',
        payload: { aud: app, sub: 's', tid: tenant, ver: '2.0', name: 'A', rh: '0' },
        scopes: 'refused',
      },
    ],
  },
  {
    name: 'Entra ID: app-only, version 2',
    path: `/${tenant}/v2.0`,
    env: {
      OAUTH_AUDIENCE: app,
      OAUTH_SCOPE_CLAIMS: 'scp,roles',
      OAUTH_SCOPE_MAP: 'Videos.ReadWrite.All=videos:read+videos:write',
    },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'app role in the words of Microsoft',
        payload: {
          aud: app,
          azp: client,
          azpacr: '1',
          oid: 'o',
          roles: ['Videos.ReadWrite.All'],
          sub: 'o',
          ver: '2.0',
        },
        name: client,
        scopes: [read, write],
      },
      {
        what: 'app role named like a scope',
        payload: { aud: app, azp: client, roles: [read], sub: 'o', ver: '2.0' },
        name: client,
        scopes: [read],
      },
      { what: 'no role assigned', payload: { aud: app, azp: client, sub: 'o', ver: '2.0' }, scopes: [] },
      {
        what: 'user, in the same configuration',
        payload: { aud: app, azp: client, scp: read, sub: 's', ver: '2.0' },
        name: client,
        scopes: [read],
      },
      {
        what: 'ID token of a user who has the role',
        payload: { aud: app, sub: 's', roles: ['Videos.ReadWrite.All'], ver: '2.0' },
        scopes: 'refused',
      },
    ],
  },
  {
    name: 'Entra ID: version 1, with either form of the audience',
    path: `/${tenant}/`,
    env: { OAUTH_AUDIENCE: `api://${app}, ${app}`, OAUTH_SCOPE_CLAIMS: 'scp,roles' },
    header: { typ: 'JWT', x5t: 'one' },
    tokens: [
      {
        what: 'app-only',
        payload: { aud: `api://${app}`, appid: client, appidacr: '1', roles: [read], sub: 'o', ver: '1.0' },
        name: client,
        scopes: [read],
      },
      {
        what: 'user',
        payload: { aud: app, appid: client, scp: read, sub: 's', unique_name: 'a@b.example', ver: '1.0' },
        name: client,
        scopes: [read],
      },
    ],
  },
  {
    name: 'Amazon Cognito: no audience, prefixed scopes',
    path: '/eu-central-1_AbCdEf123',
    env: {
      OAUTH_AUDIENCE: '7lhlkkfbfb4q5kpp90urffao,2mobile',
      OAUTH_AUDIENCE_CLAIM: 'client_id',
      OAUTH_SCOPE_MAP: 'gateway/videos:read=videos:read,gateway/videos:write=videos:write',
    },
    header: {},
    tokens: [
      {
        what: 'client credentials',
        payload: {
          sub: '7lhlkkfbfb4q5kpp90urffao',
          token_use: 'access',
          scope: 'gateway/videos:read gateway/videos:write',
          auth_time: 1_700_000_000,
          version: 2,
          client_id: '7lhlkkfbfb4q5kpp90urffao',
        },
        name: '7lhlkkfbfb4q5kpp90urffao',
        scopes: [read, write],
      },
      {
        what: 'user',
        payload: {
          sub: 'u',
          token_use: 'access',
          scope: 'openid gateway/videos:read',
          client_id: '2mobile',
          username: 'a',
        },
        name: '2mobile',
        scopes: [read],
      },
      {
        what: 'scope of another resource server',
        payload: { sub: 'u', token_use: 'access', scope: 'other/videos:read', client_id: '2mobile' },
        scopes: [],
      },
      {
        what: 'another client of the pool',
        payload: { sub: 'u', token_use: 'access', scope: 'gateway/videos:read', client_id: 'other' },
        scopes: 'refused',
      },
      {
        what: 'ID token',
        payload: { sub: 'u', aud: '2mobile', token_use: 'id', at_hash: 'x', scope: 'gateway/videos:read' },
        scopes: 'refused',
      },
    ],
  },
  {
    name: 'Google: it signs ID tokens alone',
    path: '/',
    env: { OAUTH_AUDIENCE: '407408718192.apps.googleusercontent.com' },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'user',
        payload: {
          azp: '407408718192.apps.googleusercontent.com',
          aud: '407408718192.apps.googleusercontent.com',
          sub: '110169484474386276334',
          hd: 'b.example',
          email: 'a@b.example',
          email_verified: true,
          at_hash: 'HK6E',
        },
        scopes: 'refused',
      },
      {
        what: 'service account',
        payload: {
          aud: '407408718192.apps.googleusercontent.com',
          azp: '1234',
          sub: '1234',
          email: 'x@y.iam.gserviceaccount.com',
        },
        scopes: [],
      },
    ],
  },
]

/** Signed by the issuer's own key, for the gateway's audience, and yet not access tokens; why, as the log says it. */
export const foreignTokens: {
  what: string
  header?: object
  payload: JWTPayload
  reason: RegExp | string
}[] = [
  {
    what: 'refresh token of Keycloak',
    payload: { typ: 'Refresh', azp: 'a', scope: read },
    reason: 'its typ is Refresh',
  },
  {
    what: 'typ in another case',
    payload: { typ: 'REFRESH', azp: 'a', scope: read },
    reason: 'its typ is REFRESH',
  },
  { what: 'ID token of Keycloak', payload: { typ: 'ID', azp: 'a', scope: read }, reason: 'its typ is ID' },
  {
    what: 'at+jwt around a refresh token',
    header: { typ: 'at+jwt' },
    payload: { typ: 'Refresh', azp: 'a', scope: read },
    reason: 'its typ is Refresh',
  },
  {
    what: 'typ that is no text',
    payload: { typ: ['Bearer', 'ID'], azp: 'a', scope: read },
    reason: 'its typ is Bearer,ID',
  },
  {
    what: 'token for a proof of possession',
    payload: { typ: 'DPoP', azp: 'a', scope: read },
    reason: 'its typ is DPoP',
  },
  {
    what: 'token_use',
    payload: { token_use: 'id', client_id: 'a', scope: read },
    reason: 'its token_use is id',
  },
  {
    what: 'token_type',
    payload: { token_type: 'refresh', client_id: 'a', scope: read },
    reason: 'its token_type is refresh',
  },
  {
    what: 'logout token',
    header: { typ: 'logout+jwt' },
    payload: { events: {}, scope: read },
    reason: 'typ logout+jwt',
  },
  {
    what: 'logout token without a type',
    header: { typ: undefined },
    payload: { events: {}, scope: read },
    reason: 'the claim events',
  },
  {
    what: 'security event',
    header: { typ: 'secevent+jwt' },
    payload: { scope: read },
    reason: 'typ secevent+jwt',
  },
  {
    what: 'client assertion',
    header: { typ: 'client-authentication+jwt' },
    payload: { scope: read },
    reason: /typ client-auth/,
  },
  { what: 'DPoP proof', header: { typ: 'dpop+jwt' }, payload: { scope: read }, reason: 'typ dpop+jwt' },
  {
    what: 'introspection response',
    header: { typ: 'token-introspection+jwt' },
    payload: { scope: read },
    reason: /typ token-/,
  },
  {
    what: 'ID token with nonce',
    payload: { nonce: 'x', azp: 'a', scope: read },
    reason: 'ID token: it has the claim nonce',
  },
  {
    what: 'ID token with at_hash',
    payload: { at_hash: 'x', azp: 'a', roles: [read] },
    reason: 'the claim at_hash',
  },
  {
    what: 'ID token with c_hash',
    payload: { c_hash: 'x', azp: 'a', roles: [read] },
    reason: 'the claim c_hash',
  },
  { what: 'bare ID token with roles', payload: { roles: [read] }, reason: 'looks like an ID token' },
  {
    what: 'payload typ JWT, nonce',
    payload: { typ: 'JWT', nonce: 'x', azp: 'a', scope: read },
    reason: 'the claim nonce',
  },
  {
    what: 'another audience',
    payload: { aud: 'account', azp: 'a', scope: read },
    reason: 'its aud is account, and OAUTH_AUDIENCE requires',
  },
  {
    what: 'an audience that is no text',
    payload: { aud: { [audience]: true } as never, azp: 'a', scope: read },
    reason: 'its aud is missing',
  },
]
